#include "operator/local/postgres_server.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "operator/local/line_tail.h"
#include "operator/local/process.h"
#include "operator/local/state_folder.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"

#define DEBIAN_FOLDER        "/usr/lib/postgresql"
#define INITDB_TIMEOUT_MS    120000
#define START_TIMEOUT_MS     60000
#define INIT_FILE_TIMEOUT_MS 600000
#define STOP_TIMEOUT_MS      10000
#define RESTART_MS           500
#define RESTART_DOUBLINGS    4
#define STABLE_MS            10000 /* a start that lasted so long was fine */
#define POLL_MS              5
#define PASSWORD_BYTES       16
#define PID_FILE_MAX_BYTES   4096
#define PID_FILE_STATUS_LINE 8 /* "ready" once it takes connections */
#define HALF_PREFIX          "data.new."
#define HALF_NAME_BYTES      8
#define FOLDER_MODE          0700
#define ROLE                 "cicada"
#define DATABASE             "cicada"
#define SUPERUSER            "postgres"
#define MAX_CONNECTIONS      "max_connections=200"
#define PATH_VARIABLE        "PATH=/usr/local/bin:/usr/bin:/bin"

struct postgres_server {
    struct postgres_server_settings settings;
    char *folder, *programs, *data, *url, *psql, *password;
    uid_t uid;
    gid_t gid;
    bool set_user, is_new;
    int port;
    struct process *process;
    bool is_up, has_ended, stopping;
    int64_t started_ms;
    int failures; /* starts in a row that did not last */
    struct loop_timer restart;
    struct line_tail tail;
};

/* ---- programs that run to their end ---- */

struct command {
    struct postgres_server *server;
    struct line_tail tail;
    bool over;
    int status;
};

static void command_line(void *arg, const char *text, size_t len)
{
    struct command *command = arg;
    line_tail_add(&command->tail, text, len);
}

static void command_ended(void *arg, int wait_status)
{
    struct command *command = arg;
    command->over = true;
    command->status = wait_status;
}

static void append_tail(const struct line_tail *tail, struct strbuf *out)
{
    const char *line;
    for (size_t i = 0; (line = line_tail_get(tail, i)) != NULL; i++) {
        strbuf_appendf(out, "\n    %s", line);
    }
}

static int fail_with_tail(const struct line_tail *tail, const char *what, struct err *err)
{
    char storage[400];
    struct strbuf text;
    strbuf_init_fixed(&text, storage, sizeof storage);
    append_tail(tail, &text);
    return err_set(err, ERR_UNAVAILABLE, "%s%s", what, text.buf);
}

/* Turns the loop until *over, the deadline, or the end of the start. */
static int turn_until(struct postgres_server *server, const bool *over, int64_t deadline_ms, const char *what,
                      struct err *err)
{
    while (!*over) {
        if (server->settings.give_up && *server->settings.give_up) {
            return err_set(err, ERR_CANCELLED, "%s: given up", what);
        }
        if (deadline_left_ms(deadline_ms) == 0) {
            return err_set(err, ERR_TIMEOUT, "%s: takes too long", what);
        }
        loop_turn(server->settings.loop, POLL_MS);
    }
    return 0;
}

static int run(struct postgres_server *server, char *const *argv, const char *what, int64_t timeout_ms,
               struct err *err)
{
    struct command command = {.server = server};
    char path[] = PATH_VARIABLE, language[] = "LC_ALL=C.UTF-8";
    CLEANUP_FREE char *password = xasprintf("PGPASSWORD=%s", server->password ? server->password : "");
    char *const envp[] = {path, language, password, NULL};
    struct process_settings settings = {
        .argv = argv,
        .envp = envp,
        .uid = server->uid,
        .gid = server->gid,
        .set_user = server->set_user,
        .death_signal = SIGKILL,
        .line = command_line,
        .ended = command_ended,
        .arg = &command,
    };
    struct process *process;
    if (process_start(server->settings.loop, &settings, &process, err) < 0) {
        return -1;
    }
    int result = turn_until(server, &command.over, clock_monotonic_ms() + timeout_ms, what, err);
    if (!command.over) {
        struct err ignored = ERR_INIT;
        process_signal(process, SIGKILL);
        const struct postgres_server_settings before = server->settings;
        server->settings.give_up = NULL;
        (void)turn_until(server, &command.over, clock_monotonic_ms() + STOP_TIMEOUT_MS, what, &ignored);
        server->settings = before;
    } else if (!WIFEXITED(command.status) || WEXITSTATUS(command.status) != 0) {
        result = fail_with_tail(&command.tail, what, err);
    }
    process_free(process);
    line_tail_release(&command.tail);
    return result;
}

/* ---- finding ---- */

static bool has_programs(const char *folder)
{
    CLEANUP_FREE char *initdb = xasprintf("%s/initdb", folder), *postgres = xasprintf("%s/postgres", folder);
    return access(initdb, X_OK) == 0 && access(postgres, X_OK) == 0;
}

/* Debian has a folder for each major version. */
static char *find_debian_programs(void)
{
    DIR *folder = opendir(DEBIAN_FOLDER);
    char *best = NULL;
    int64_t best_version = 0, version;
    for (const struct dirent *entry; folder && (entry = readdir(folder)) != NULL;) {
        CLEANUP_FREE char *path = xasprintf(DEBIAN_FOLDER "/%s/bin", entry->d_name);
        if (parse_int64(entry->d_name, 1, 1000, &version) && version > best_version && has_programs(path)) {
            free(best);
            best = steal_ptr(&path);
            best_version = version;
        }
    }
    if (folder) {
        closedir(folder);
    }
    return best;
}

static char *find_in_path(void)
{
    const char *path = getenv("PATH");
    while (path && *path) {
        size_t len = strcspn(path, ":");
        CLEANUP_FREE char *folder = xstrndup(path, len);
        if (len > 0 && has_programs(folder)) {
            return steal_ptr(&folder);
        }
        path += len + (path[len] == ':' ? 1 : 0);
    }
    return NULL;
}

static int find_programs(struct postgres_server *server, struct err *err)
{
    const char *asked = server->settings.programs;
    if (asked) {
        server->programs = has_programs(asked) ? xstrdup(asked) : NULL;
    } else {
        server->programs = find_debian_programs();
        server->programs = server->programs ? server->programs : find_in_path();
    }
    if (!server->programs) {
        return err_set(err, ERR_NOT_FOUND,
                       "no PostgreSQL server programs (initdb, postgres) in %s: install postgresql, or give "
                       "--database-url",
                       asked ? asked : DEBIAN_FOLDER "/*/bin or PATH");
    }
    return 0;
}

static int find_user(struct postgres_server *server, struct err *err)
{
    if (geteuid() != 0) {
        return 0;
    }
    const struct passwd *user = getpwnam(SUPERUSER);
    if (!user) {
        return err_set(err, ERR_NOT_FOUND,
                       "PostgreSQL does not run as root, and there is no user " SUPERUSER);
    }
    server->uid = user->pw_uid;
    server->gid = user->pw_gid;
    server->set_user = true;
    return 0;
}

/* ---- the folder ---- */

/* As root the server is another user, who must get there. */
static int check_reach(const struct postgres_server *server, struct err *err)
{
    CLEANUP_FREE char *path = xstrdup(server->folder);
    for (char *slash; server->set_user && (slash = strrchr(path, '/')) != NULL && slash > path;) {
        struct stat status;
        *slash = '\0';
        if (stat(path, &status) == 0 && (status.st_mode & S_IXOTH) == 0 && status.st_uid != server->uid) {
            return err_set(err, ERR_FORBIDDEN,
                           "%s is closed to the user %s, as whom PostgreSQL runs: name another --state-dir",
                           path, SUPERUSER);
        }
    }
    return 0;
}

static int make_folder(const struct postgres_server *server, struct err *err)
{
    const char *folder = server->folder;
    if (mkdir(folder, FOLDER_MODE) < 0 && errno != EEXIST) {
        return err_set_errno(err, errno, "%s", folder);
    }
    if (server->set_user && chown(folder, server->uid, server->gid) < 0) {
        return err_set_errno(err, errno, "%s", folder);
    }
    return 0;
}

/* ---- its pid file ---- */

/* The text of a line of postmaster.pid (from 1 on), or NULL. */
static char *pid_file_line(const struct postgres_server *server, int wanted)
{
    struct err err = ERR_INIT;
    CLEANUP_FREE char *path = xasprintf("%s/postmaster.pid", server->data), *text = NULL;
    if (file_read(path, PID_FILE_MAX_BYTES, &text, NULL, &err) < 0) {
        return NULL;
    }
    const char *line = text;
    for (int number = 1; number < wanted && line; number++) {
        line = strchr(line, '\n');
        line = line ? line + 1 : NULL;
    }
    return line && *line ? xstrndup(line, strcspn(line, "\n")) : NULL;
}

static bool is_ready(const struct postgres_server *server)
{
    CLEANUP_FREE char *status = pid_file_line(server, PID_FILE_STATUS_LINE);
    CLEANUP_FREE char *pid = pid_file_line(server, 1);
    int64_t number;
    return status && str_starts_with(status, "ready") && pid && parse_int64(pid, 1, INT32_MAX, &number) &&
           number == process_pid(server->process);
}

/* Every process of a server works in its data's folder. The number in its pid file may be another program's by now. */
static bool is_in_use(const char *data)
{
    DIR *folder = opendir("/proc");
    bool found = false;
    for (const struct dirent *entry; folder && !found && (entry = readdir(folder)) != NULL;) {
        char path[PATH_MAX];
        CLEANUP_FREE char *link = xasprintf("/proc/%s/cwd", entry->d_name);
        ssize_t len = readlink(link, path, sizeof path);
        found = len == (ssize_t)strlen(data) && memcmp(path, data, (size_t)len) == 0;
    }
    if (folder) {
        closedir(folder);
    }
    return found;
}

/* One whose parent was killed may still be about to end. Without one its pid file means nothing, which a server does not know. */
static int wait_for_predecessor(const struct postgres_server *server, struct err *err)
{
    int64_t deadline_ms = clock_monotonic_ms() + STOP_TIMEOUT_MS;
    while (is_in_use(server->data)) {
        if (deadline_left_ms(deadline_ms) == 0) {
            return err_set(err, ERR_CONFLICT, "%s: another PostgreSQL uses it", server->data);
        }
        loop_turn(server->settings.loop, POLL_MS);
    }
    CLEANUP_FREE char *pid_file = xasprintf("%s/postmaster.pid", server->data);
    (void)unlink(pid_file);
    return 0;
}

/* ---- initdb ---- */

static int write_password(struct postgres_server *server, const char *path, struct err *err)
{
    char password[PASSWORD_BYTES * 2 + 1];
    random_hex(password, PASSWORD_BYTES);
    CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, password, sizeof password - 1) != sizeof password - 1 ||
        (server->set_user && fchown(fd, server->uid, server->gid) < 0)) {
        return err_set_errno(err, errno, "%s", path);
    }
    return 0;
}

static int read_password(struct postgres_server *server, const char *path, struct err *err)
{
    size_t len;
    if (file_read(path, PASSWORD_BYTES * 2, &server->password, &len, err) < 0) {
        return -1;
    }
    return len == PASSWORD_BYTES * 2 ? 0 : err_set(err, ERR_INVALID, "%s: is no password of ours", path);
}

/* What interrupted ones left. What still writes there keeps its folder until the next time. */
static void remove_halves(const struct postgres_server *server)
{
    DIR *folder = opendir(server->folder);
    for (const struct dirent *entry; folder && (entry = readdir(folder)) != NULL;) {
        struct err err = ERR_INIT;
        CLEANUP_FREE char *path = xasprintf("%s/%s", server->folder, entry->d_name);
        if (str_starts_with(entry->d_name, HALF_PREFIX) && remove_tree(path, &err) < 0) {
            log_debug("%s, ignoring", err.msg);
        }
    }
    if (folder) {
        closedir(folder);
    }
}

/* Into a folder beside, so that one that was interrupted is never taken for complete; of its own, since what a killed one has started
 * may write for a moment. */
static int init_database(struct postgres_server *server, const char *password_path, struct err *err)
{
    CLEANUP_FREE char *initdb = xasprintf("%s/initdb", server->programs);
    char name[HALF_NAME_BYTES * 2 + 1];
    random_hex(name, HALF_NAME_BYTES);
    CLEANUP_FREE char *half = xasprintf("%s/" HALF_PREFIX "%s", server->folder, name);
    CLEANUP_FREE char *data = xasprintf("--pgdata=%s", half),
                      *password = xasprintf("--pwfile=%s", password_path);
    char user[] = "--username=" SUPERUSER, local[] = "--auth-local=trust",
         host[] = "--auth-host=scram-sha-256", encoding[] = "--encoding=UTF8", locale[] = "--locale=C.UTF-8",
         no_sync[] = "--no-sync";
    char *const argv[] = {initdb, data, user, password, local, host, encoding, locale, no_sync, NULL};
    remove_halves(server);
    if (write_password(server, password_path, err) < 0 ||
        run(server, argv, "initdb", INITDB_TIMEOUT_MS, err) < 0) {
        return -1;
    }
    if (rename(half, server->data) < 0) {
        return err_set_errno(err, errno, "%s", server->data);
    }
    server->is_new = true;
    return 0;
}

/* ---- start ---- */

static void server_line(void *arg, const char *text, size_t len)
{
    struct postgres_server *server = arg;
    line_tail_add(&server->tail, text, len);
    CLEANUP_FREE char *copy = xstrndup(text, len);
    /* Its start and end are told by us; what is wrong is told by it. */
    if (strstr(copy, "LOG: ") == NULL) {
        console_process_line(server->settings.console, "postgres", text, len);
    }
}

/* With growing delays if it does not last. */
static void set_restart(struct postgres_server *server)
{
    int64_t now_ms = clock_monotonic_ms();
    server->failures = now_ms - server->started_ms >= STABLE_MS ? 0 : server->failures;
    loop_timer_set(server->settings.loop, &server->restart, now_ms + (RESTART_MS << server->failures));
    server->failures += server->failures < RESTART_DOUBLINGS ? 1 : 0;
}

static void server_ended(void *arg, int wait_status)
{
    struct postgres_server *server = arg;
    server->has_ended = true;
    if (!server->stopping) {
        char how[PROCESS_END_SIZE];
        process_end_text(wait_status, how);
        CLEANUP_STRBUF struct strbuf text;
        strbuf_init(&text, CONSOLE_LINE_MAX_BYTES);
        append_tail(&server->tail, &text);
        console_say(server->settings.console, "PostgreSQL ended by itself: %s%s", how, text.buf);
    }
    if (server->is_up && !server->stopping) {
        set_restart(server);
    }
}

static int launch_server(struct postgres_server *server, struct err *err);

/* On the same port: who uses it knows no other. */
static void restart_server(struct loop_timer *timer)
{
    struct postgres_server *server = container_of(timer, struct postgres_server, restart);
    struct err err = ERR_INIT;
    process_free(server->process);
    server->process = NULL;
    if (launch_server(server, &err) < 0) {
        console_say(server->settings.console, "PostgreSQL is not started again yet: %s", err.msg);
        server->has_ended = true;
        set_restart(server);
    }
}

static int pick_port(int *ret_port, struct err *err)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    CLEANUP_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, len) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) < 0) {
        return err_set_errno(err, errno, "a port for PostgreSQL");
    }
    *ret_port = ntohs(address.sin_port);
    return 0;
}

static int launch_server(struct postgres_server *server, struct err *err)
{
    CLEANUP_FREE char *postgres = xasprintf("%s/postgres", server->programs);
    CLEANUP_FREE char *port = xasprintf("port=%d", server->port);
    CLEANUP_FREE char *sockets = xasprintf("unix_socket_directories=%s", server->folder);
    char data_flag[] = "-D", set[] = "-c", listen[] = "listen_addresses=127.0.0.1", most[] = MAX_CONNECTIONS,
         /* Nothing of it outside of its folder. */
        memory[] = "dynamic_shared_memory_type=mmap", socket_mode[] = "unix_socket_permissions=0777",
         language[] = "lc_messages=C.UTF-8";
    char *const argv[] = {postgres, data_flag, server->data, set, port,     set,
                          sockets,  set,       listen,       set, most,     set,
                          memory,   set,       socket_mode,  set, language, NULL};
    char path[] = PATH_VARIABLE;
    char *const envp[] = {path, NULL};
    struct process_settings settings = {
        .argv = argv,
        .envp = envp,
        .uid = server->uid,
        .gid = server->gid,
        .set_user = server->set_user,
        .death_signal = SIGINT, /* fast shutdown */
        .line = server_line,
        .ended = server_ended,
        .arg = server,
    };
    server->has_ended = false;
    server->started_ms = clock_monotonic_ms();
    return process_start(server->settings.loop, &settings, &server->process, err);
}

static int start_server(struct postgres_server *server, struct err *err)
{
    if (pick_port(&server->port, err) < 0 || launch_server(server, err) < 0) {
        return -1;
    }
    int64_t deadline_ms = clock_monotonic_ms() + START_TIMEOUT_MS;
    bool ready = false;
    while (!ready) {
        if (server->has_ended) {
            return fail_with_tail(&server->tail, "PostgreSQL did not start", err);
        }
        bool over = false;
        if (deadline_left_ms(deadline_ms) == 0 || (server->settings.give_up && *server->settings.give_up)) {
            return turn_until(server, &over, 0, "PostgreSQL", err);
        }
        loop_turn(server->settings.loop, POLL_MS);
        ready = is_ready(server);
    }
    server->is_up = true;
    return 0;
}

/* ---- the database ---- */

static int run_psql(struct postgres_server *server, const char *user, const char *database, char *flag,
                    char *argument, const char *what, struct err *err)
{
    CLEANUP_FREE char *psql = xasprintf("%s/psql", server->programs);
    CLEANUP_FREE char *uri =
        xasprintf("host=%s port=%d user=%s dbname=%s", server->folder, server->port, user, database);
    char no_rc[] = "-X", quiet[] = "-q", stop[] = "-v", on_error[] = "ON_ERROR_STOP=1";
    char *const argv[] = {psql, no_rc, quiet, stop, on_error, flag, argument, uri, NULL};
    return run(server, argv, what, INIT_FILE_TIMEOUT_MS, err);
}

/* The author's files belong to the author: read here, not by the server's user. */
static int run_init_file(struct postgres_server *server, const char *file, struct err *err)
{
    bool set_user = server->set_user;
    char flag[] = "-f";
    CLEANUP_FREE char *name = xstrdup(file);
    server->set_user = false;
    int result = run_psql(server, ROLE, DATABASE, flag, name, file, err);
    server->set_user = set_user;
    return result;
}

static int fill_database(struct postgres_server *server, struct err *err)
{
    char flag[] = "-c";
    CLEANUP_FREE char *role =
        xasprintf("CREATE ROLE " ROLE " LOGIN PASSWORD '%s'", server->password); /* hexadecimal digits */
    char database[] = "CREATE DATABASE " DATABASE " OWNER " ROLE;
    if (run_psql(server, SUPERUSER, SUPERUSER, flag, role, "the role of functions", err) < 0 ||
        run_psql(server, SUPERUSER, SUPERUSER, flag, database, "the database of functions", err) < 0) {
        return -1;
    }
    for (const char *const *file = server->settings.init_files; file && *file; file++) {
        if (run_init_file(server, *file, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* A socket's path has room for 107 bytes; where that is not enough, it is loopback. */
static void make_urls(struct postgres_server *server)
{
    struct sockaddr_un address;
    CLEANUP_FREE char *path = xasprintf("%s/.s.PGSQL.%d", server->folder, server->port);
    bool by_socket = strlen(path) < sizeof address.sun_path;
    struct strbuf host;
    strbuf_init(&host, PATH_MAX);
    strbuf_append_percent_encoded(&host, server->folder);
    server->url = by_socket ? xasprintf("postgresql://" ROLE "@%s:%d/" DATABASE, host.buf, server->port)
                            : xasprintf("postgresql://" ROLE ":%s@127.0.0.1:%d/" DATABASE "?sslmode=disable",
                                        server->password, server->port);
    server->psql =
        xasprintf("psql postgresql://" ROLE ":%s@127.0.0.1:%d/" DATABASE, server->password, server->port);
    strbuf_release(&host);
}

/* Complete only once the author's files have gone in: a start that failed there begins anew. */
static int prepare(struct postgres_server *server, struct err *err)
{
    CLEANUP_FREE char *password_path = xasprintf("%s/password", server->folder);
    CLEANUP_FREE char *complete = xasprintf("%s/complete", server->folder);
    if (find_programs(server, err) < 0 || find_user(server, err) < 0 || check_reach(server, err) < 0 ||
        make_folder(server, err) < 0 || wait_for_predecessor(server, err) < 0) {
        return -1;
    }
    bool is_complete = access(complete, F_OK) == 0;
    if (server->settings.fresh || !is_complete) {
        (void)unlink(complete);
        if (remove_tree(server->data, err) < 0 || init_database(server, password_path, err) < 0) {
            return -1;
        }
    }
    if (read_password(server, password_path, err) < 0 || start_server(server, err) < 0) {
        return -1;
    }
    make_urls(server);
    if (server->is_new) {
        if (fill_database(server, err) < 0) {
            return -1;
        }
        CLEANUP_FD int fd = open(complete, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0) {
            return err_set_errno(err, errno, "%s", complete);
        }
    }
    return 0;
}

int postgres_server_start(const struct postgres_server_settings *settings,
                          struct postgres_server **ret_server, struct err *err)
{
    struct postgres_server *server = xcalloc(1, sizeof *server);
    server->settings = *settings;
    server->folder = xstrdup(settings->folder);
    server->data = xasprintf("%s/data", settings->folder);
    loop_timer_init(&server->restart, restart_server);
    if (prepare(server, err) < 0) {
        postgres_server_stop(server);
        return -1;
    }
    *ret_server = server;
    return 0;
}

const char *postgres_server_url(const struct postgres_server *server)
{
    return server->url;
}

const char *postgres_server_psql(const struct postgres_server *server)
{
    return server->psql;
}

bool postgres_server_is_new(const struct postgres_server *server)
{
    return server->is_new;
}

void postgres_server_stop(struct postgres_server *server)
{
    if (!server) {
        return;
    }
    struct err err = ERR_INIT;
    server->stopping = true;
    server->settings.give_up = NULL;
    loop_timer_close(server->settings.loop, &server->restart);
    if (server->process && !server->has_ended) {
        process_signal(server->process, SIGINT);
        if (turn_until(server, &server->has_ended, clock_monotonic_ms() + STOP_TIMEOUT_MS, "PostgreSQL",
                       &err) < 0) {
            process_signal(server->process, SIGQUIT);
            (void)turn_until(server, &server->has_ended, clock_monotonic_ms() + STOP_TIMEOUT_MS, "PostgreSQL",
                             &err);
        }
    }
    process_free(server->process);
    line_tail_release(&server->tail);
    free(server->folder);
    free(server->programs);
    free(server->data);
    free(server->url);
    free(server->psql);
    free(server->password);
    free(server);
}
