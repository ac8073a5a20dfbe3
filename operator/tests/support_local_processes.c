#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "operator/tests/support_local.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/tests/support_runtime.h"
#include "runtime/tests/support_shell.h"
#include "runtime/tests/support_test.h"

#define WAIT_MS                20000
#define COMMAND_LINE_MAX_BYTES 65536

static void pause_ms(int ms)
{
    poll(NULL, 0, ms);
}

/* ---- its processes ---- */

/* False: it is over, or only waits to be reaped. */
static bool is_alive(pid_t pid, pid_t *ret_parent)
{
    CLEANUP_FREE char *path = xasprintf("/proc/%d/stat", (int)pid), *text = runtime_process_read(path);
    const char *after = strrchr(text, ')');
    int64_t parent;
    if (!after || after[2] == 'Z' || after[2] == 'X') {
        return false;
    }
    assert_true(parse_int64_n(after + 4, strcspn(after + 4, " "), 0, INT32_MAX, &parent));
    *ret_parent = (pid_t)parent;
    return true;
}

static bool has_pid(const struct local_processes *processes, pid_t pid)
{
    for (size_t i = 0; i < processes->count; i++) {
        if (processes->pids[i] == pid) {
            return true;
        }
    }
    return false;
}

static bool add_children(const struct local *local, struct local_processes *processes)
{
    DIR *folder = opendir("/proc");
    bool any = false;
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        int64_t pid;
        pid_t parent;
        if (parse_int64(entry->d_name, 1, INT32_MAX, &pid) && !has_pid(processes, (pid_t)pid) &&
            is_alive((pid_t)pid, &parent) && (parent == local->pid || has_pid(processes, parent))) {
            assert_true(processes->count < LOCAL_PROCESSES_MAX);
            processes->pids[processes->count++] = (pid_t)pid;
            any = true;
        }
    }
    closedir(folder);
    return any;
}

void local_processes(const struct local *local, struct local_processes *ret_processes)
{
    ret_processes->count = 0;
    while (add_children(local, ret_processes)) {}
}

/* Its words, separated by spaces. */
static char *command_line(pid_t pid)
{
    CLEANUP_FREE char *path = xasprintf("/proc/%d/cmdline", (int)pid);
    char *text = xcalloc(1, COMMAND_LINE_MAX_BYTES);
    CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? 0 : read(fd, text, COMMAND_LINE_MAX_BYTES - 1);
    for (ssize_t i = 0; i + 1 < len; i++) {
        text[i] = text[i] ? text[i] : ' ';
    }
    return text;
}

static int find_children(const struct local *local, const char *text, pid_t *ret_pid)
{
    struct local_processes all;
    int count = 0;
    local_processes(local, &all);
    for (size_t i = 0; i < all.count; i++) {
        pid_t parent;
        CLEANUP_FREE char *line = command_line(all.pids[i]);
        if (is_alive(all.pids[i], &parent) && parent == local->pid && strstr(line, text)) {
            *ret_pid = all.pids[i];
            count++;
        }
    }
    return count;
}

int local_child_count(const struct local *local, const char *text)
{
    pid_t ignored;
    return find_children(local, text, &ignored);
}

pid_t local_child(const struct local *local, const char *text)
{
    pid_t pid = 0;
    assert_int_equal(find_children(local, text, &pid), 1);
    return pid;
}

void local_await_children(const struct local *local, const char *text, int count)
{
    int64_t until_ms = clock_monotonic_ms() + WAIT_MS;
    int found;
    while ((found = local_child_count(local, text)) != count) {
        if (clock_monotonic_ms() >= until_ms) {
            CLEANUP_FREE char *what = xasprintf("%d children <%s>, expected %d", found, text, count);
            local_fail(local, what);
        }
        pause_ms(10);
    }
}

size_t local_descriptors(const struct local *local)
{
    CLEANUP_FREE char *path = xasprintf("/proc/%d/fd", (int)local->pid);
    DIR *folder = opendir(path);
    size_t count = 0;
    assert_non_null(folder);
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        count += entry->d_name[0] != '.';
    }
    closedir(folder);
    return count;
}

size_t local_pss_kib(const struct local *local)
{
    CLEANUP_FREE char *path = xasprintf("/proc/%d/smaps_rollup", (int)local->pid),
                      *text = runtime_process_read(path);
    const char *line = strstr(text, "\nPss:");
    int64_t kib = 0;
    assert_non_null(line);
    line += strcspn(line, "0123456789");
    assert_true(parse_int64_n(line, strspn(line, "0123456789"), 0, INT32_MAX, &kib));
    return (size_t)kib;
}

void local_await_over(const struct local_processes *processes, int within_ms)
{
    int64_t until_ms = clock_monotonic_ms() + within_ms;
    for (size_t i = 0; i < processes->count; i++) {
        pid_t parent;
        while (is_alive(processes->pids[i], &parent)) {
            if (clock_monotonic_ms() >= until_ms) {
                CLEANUP_FREE char *line = command_line(processes->pids[i]);
                fail_msg("process %d is not over after %d ms: %s", (int)processes->pids[i], within_ms, line);
            }
            pause_ms(5);
        }
    }
}

/* ---- what is left ---- */

static void expect_no_process(const struct local *local)
{
    DIR *folder = opendir("/proc");
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        int64_t pid;
        pid_t parent;
        if (!parse_int64(entry->d_name, 1, INT32_MAX, &pid) || pid == getpid()) {
            continue;
        }
        CLEANUP_FREE char *line = command_line((pid_t)pid);
        if (strstr(line, local->folder) && is_alive((pid_t)pid, &parent)) {
            fail_msg("process %d is left: %s", (int)pid, line);
        }
    }
    closedir(folder);
}

/* key shmid perms size cpid lpid nattch uid gid cuid cgid atime dtime ctime ... A segment that a killed server has left long ago
 * may have had a creator of the same number. */
static void expect_no_memory(const struct local *local, const struct local_processes *processes)
{
    CLEANUP_FREE char *text = runtime_process_read("/proc/sysvipc/shm");
    for (const char *line = strchr(text, '\n'); line && line[1]; line = strchr(line + 1, '\n')) {
        int id, creator;
        int64_t changed_s;
        int found = sscanf(line + 1, "%*d %d %*o %*u %d %*d %*u %*u %*u %*u %*u %*u %*u %" SCNd64, &id,
                           &creator, &changed_s);
        assert_int_equal(found, 3);
        if (has_pid(processes, creator) && changed_s >= local->begun_s) {
            fail_msg("shared memory %d of process %d is left", id, creator);
        }
    }
}

static void expect_no_file(const struct local *local)
{
    int status;
    CLEANUP_FREE char *command =
        xasprintf("cd '%s' && find . -mindepth 1 -not -path './manifests*' -not -path './functions*' "
                  "-not -path './tmp/answer*' -not -path './state/postgres*' | sort | tr '\\n' ' '",
                  local->folder);
    CLEANUP_FREE char *found = shell_output(command, &status);
    if (strcmp(found, "./home ./log ./state ./state/lock ./tmp ") != 0) {
        fail_msg("files: %s", found);
    }
}

void local_expect_nothing_left(const struct local *local, const struct local_processes *processes)
{
    local_await_over(processes, 0);
    expect_no_process(local);
    expect_no_memory(local, processes);
    expect_no_file(local);
    if (local->port > 0) {
        struct http_answer answer = http_ask(local->port, "GET", "/", "", NULL);
        assert_int_equal(answer.status, 0);
        http_answer_release(&answer);
    }
}
