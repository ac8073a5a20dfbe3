/* test_local_files.c - handler_store, state_folder and watcher, on files of a test's own. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "operator/local/handler_store.h"
#include "operator/local/state_folder.h"
#include "operator/local/watcher.h"
#include "operator/tests/support_local.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/tests/support_runtime.h"
#include "runtime/tests/support_shell.h"
#include "runtime/tests/support_test.h"

#define SETTLED_MS 50 /* a file's time tells it from what it will be next */

static struct local files;
static char *functions, *copies;

static int setup(void **state)
{
    (void)state;
    local_init(&files);
    functions = local_path(&files, "functions");
    copies = local_path(&files, "tmp/copies");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(functions);
    free(copies);
    local_release(&files);
    return 0;
}

/* ---- handler_store ---- */

static void expect_copy(const struct handler_copy *copy, const char *text)
{
    CLEANUP_FREE char *path = xasprintf("%s/%s", handler_copy_folder(copy), handler_copy_file(copy));
    CLEANUP_FREE char *got = runtime_process_read(path);
    assert_string_equal(got, text);
}

static void test_handler_copies(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct handler_store *store = handler_store_new(functions, copies);
    struct handler_copy *one, *same, *two;
    assert_int_equal(mkdir(copies, 0755), 0);
    assert_fails(handler_store_take(store, "f.so", &one, &err), ERR_NOT_FOUND);
    local_write(&files, "functions/f.so", "one");
    poll(NULL, 0, SETTLED_MS);
    assert_ok(handler_store_take(store, "f.so", &one, &err));
    assert_ok(handler_store_take(store, "f.so", &same, &err));
    assert_ptr_equal(one, same);
    expect_copy(one, "one");
    local_replace(&files, "functions/f.so", "two"); /* of the same length */
    assert_ok(handler_store_take(store, "f.so", &two, &err));
    assert_ptr_not_equal(one, two);
    expect_copy(two, "two");
    expect_copy(one, "one"); /* who uses it keeps it */
    local_remove(&files, "functions/f.so");
    assert_fails(handler_store_take(store, "f.so", &same, &err), ERR_NOT_FOUND);
    handler_copy_unref(two);
    handler_copy_unref(one);
    expect_copy(one, "one"); /* a reference is left */
    handler_copy_unref(one);
    handler_copy_unref(NULL);
    assert_int_equal(rmdir(copies), 0); /* nothing is in it any more */
    handler_store_free(store);
    handler_store_free(NULL);
}

static void test_handler_in_sub_folder(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct handler_store *store = handler_store_new(functions, copies);
    struct handler_copy *copy;
    assert_int_equal(mkdir(copies, 0755), 0);
    CLEANUP_FREE char *folder = xasprintf("mkdir -p '%s/a/b'", functions);
    shell_expect(folder, "");
    local_write(&files, "functions/a/b/f.so", "deep");
    assert_ok(handler_store_take(store, "a/b/f.so", &copy, &err));
    assert_string_equal(handler_copy_file(copy), "a/b/f.so");
    expect_copy(copy, "deep");
    handler_copy_unref(copy);
    assert_int_equal(rmdir(copies), 0);
    handler_store_free(store);
}

/* Within one tick of the file's clock. */
static void test_alike_versions(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct handler_store *store = handler_store_new(functions, copies);
    struct handler_copy *copy;
    assert_int_equal(mkdir(copies, 0755), 0);
    for (int i = 100; i < 300; i++) {
        CLEANUP_FREE char *text = xasprintf("%d", i);
        local_write(&files, "functions/f.so", text);
        assert_ok(handler_store_take(store, "f.so", &copy, &err));
        expect_copy(copy, text);
        handler_copy_unref(copy);
    }
    assert_ok(handler_store_take(store, "f.so", &copy, &err));
    local_write(&files, "functions/f.so", "300");
    struct handler_copy *next;
    assert_ok(handler_store_take(store, "f.so", &next, &err));
    expect_copy(next, "300");
    handler_copy_unref(copy);
    handler_copy_unref(next);
    handler_store_free(store);
}

/* A folder, and a file that is open for writing: errors, and nothing is left of the attempt. */
static void test_no_handler(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct handler_store *store = handler_store_new(functions, copies);
    struct handler_copy *copy;
    assert_int_equal(mkdir(copies, 0755), 0);
    CLEANUP_FREE char *folder = xasprintf("mkdir '%s/folder.so'; mkfifo '%s/pipe.so'", functions, functions);
    shell_expect(folder, "");
    assert_fails(handler_store_take(store, "folder.so", &copy, &err), ERR_INVALID);
    assert_fails(handler_store_take(store, "pipe.so", &copy, &err), ERR_INVALID); /* and does not wait */
    local_write(&files, "functions/f.so", "half");
    CLEANUP_FREE char *path = xasprintf("%s/f.so", functions);
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_fails(handler_store_take(store, "f.so", &copy, &err), ERR_CONFLICT);
    assert_int_equal(write(fd, " more", 5), 5);
    close(fd);
    assert_ok(handler_store_take(store, "f.so", &copy, &err));
    expect_copy(copy, "half more");
    handler_copy_unref(copy);
    assert_int_equal(rmdir(copies), 0);
    handler_store_free(store);
}

/* ---- state_folder ---- */

static void test_state_folder(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct state_folder *folder, *second;
    CLEANUP_FREE char *path = local_path(&files, "a/b//state/");
    assert_ok(state_folder_open(path, &folder, &err));
    CLEANUP_FREE char *expected = local_path(&files, "a/b/state");
    assert_string_equal(state_folder_path(folder), expected);
    assert_fails(state_folder_open(path, &second, &err), ERR_CONFLICT);
    CLEANUP_FREE char *left =
        xasprintf("cd '%s' && mkdir -p handlers/7/x run/y && touch handlers/7/x/f.so run/z && "
                  "ln -s /etc run/link",
                  expected);
    shell_expect(left, "");
    state_folder_close(folder);
    assert_false(local_has(&files, "a/b/state/handlers"));
    assert_false(local_has(&files, "a/b/state/run"));
    assert_int_equal(access("/etc/passwd", F_OK), 0); /* a link is removed, not followed */
    shell_expect(left, "");
    assert_ok(state_folder_open(path, &folder, &err)); /* as if the one before had been killed */
    assert_true(local_has(&files, "a/b/state/handlers"));
    assert_false(local_has(&files, "a/b/state/handlers/7"));
    state_folder_close(folder);
    state_folder_close(NULL);
    local_write(&files, "file", "");
    CLEANUP_FREE char *wrong = local_path(&files, "file/state");
    err_clear(&err);
    assert_int_equal(state_folder_open(wrong, &folder, &err), -1);
}

/* ---- watcher ---- */

struct ear {
    struct loop *loop;
    struct watcher *watcher;
    int calls;
};

static void heard(void *arg)
{
    struct ear *ear = arg;
    ear->calls++;
}

static void listen_for(struct ear *ear, int ms)
{
    int64_t until_ms = clock_monotonic_ms() + ms;
    while (deadline_left_ms(until_ms) > 0) {
        loop_turn(ear->loop, 10);
    }
}

static void expect_call(struct ear *ear)
{
    int64_t until_ms = clock_monotonic_ms() + 5000;
    int before = ear->calls;
    while (ear->calls == before && deadline_left_ms(until_ms) > 0) {
        loop_turn(ear->loop, 10);
    }
    assert_true(ear->calls > before);
    listen_for(ear, 100); /* what belongs to it */
}

static void ear_open(struct ear *ear)
{
    struct err err = ERR_INIT;
    *ear = (struct ear){.calls = 0};
    assert_ok(loop_new(&ear->loop, &err));
    assert_ok(watcher_new(ear->loop, heard, ear, &ear->watcher, &err));
    assert_ok(watcher_add(ear->watcher, functions, &err));
    assert_ok(watcher_add(ear->watcher, functions, &err)); /* is watched already */
}

static void ear_close(struct ear *ear)
{
    watcher_free(ear->watcher);
    watcher_free(NULL);
    loop_free(ear->loop);
}

static void test_watcher_hears(void **state)
{
    (void)state;
    struct ear ear;
    ear_open(&ear);
    local_write(&files, "functions/a", "one");
    expect_call(&ear);
    local_replace(&files, "functions/a", "two");
    expect_call(&ear);
    local_remove(&files, "functions/a");
    expect_call(&ear);
    int before = ear.calls;
    local_write(&files, "tmp/elsewhere", "x");
    listen_for(&ear, 200);
    assert_int_equal(ear.calls, before);
    ear_close(&ear);
}

/* One call for a burst; one that does not end is told of all the same. */
static void test_watcher_waits_for_the_end(void **state)
{
    (void)state;
    struct ear ear;
    ear_open(&ear);
    for (int i = 0; i < 100; i++) {
        local_write(&files, "functions/a", "x");
    }
    expect_call(&ear);
    assert_int_equal(ear.calls, 1);
    int64_t until_ms = clock_monotonic_ms() + 1500;
    while (deadline_left_ms(until_ms) > 0) {
        local_write(&files, "functions/a", "x");
        loop_turn(ear.loop, 5);
    }
    assert_true(ear.calls >= 3 && ear.calls <= 8);
    ear_close(&ear);
}

static void test_watcher_finds_a_lost_folder(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct ear ear;
    ear_open(&ear);
    CLEANUP_FREE char *away = local_path(&files, "tmp/away"), *later = local_path(&files, "tmp/later");
    assert_ok(watcher_add(ear.watcher, later, &err)); /* is not there yet */
    assert_int_equal(rename(functions, away), 0);
    expect_call(&ear);
    local_write(&files, "tmp/away/a", "x"); /* is another folder now */
    int before = ear.calls;
    listen_for(&ear, 200);
    assert_int_equal(ear.calls, before);
    assert_int_equal(mkdir(functions, 0755), 0);
    expect_call(&ear);
    local_write(&files, "functions/a", "x");
    expect_call(&ear);
    assert_int_equal(mkdir(later, 0755), 0);
    expect_call(&ear);
    ear_close(&ear);
}

static void link_to(const char *target, const char *file)
{
    CLEANUP_FREE char *path = local_path(&files, file), *next = local_path(&files, "tmp/next");
    assert_int_equal(symlink(target, next), 0);
    assert_int_equal(rename(next, path), 0);
}

/* What another link of the same folder's leads to is a change, too, and what no link leads to any more is none. */
static void test_watcher_follows_links(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct ear ear;
    CLEANUP_FREE char *one = local_path(&files, "one"), *two = local_path(&files, "two"),
                      *linked = local_path(&files, "functions/data/a"), *loop = local_path(&files, "loop");
    assert_int_equal(mkdir(one, 0755), 0);
    assert_int_equal(mkdir(two, 0755), 0);
    link_to("../one", "functions/data");
    link_to("loop", "loop");
    ear_open(&ear);
    assert_ok(watcher_add(ear.watcher, linked, &err)); /* is not there yet */
    assert_ok(watcher_add(ear.watcher, loop, &err));
    local_write(&files, "one/a", "x");
    expect_call(&ear);
    link_to(two, "functions/data");
    expect_call(&ear);
    watcher_begin(ear.watcher);
    assert_ok(watcher_add(ear.watcher, linked, &err));
    watcher_end(ear.watcher);
    local_write(&files, "two/a", "x");
    expect_call(&ear);
    int before = ear.calls;
    local_write(&files, "one/a", "y");
    listen_for(&ear, 200);
    assert_int_equal(ear.calls, before);
    local_remove(&files, "functions/data");
    expect_call(&ear);
    CLEANUP_FREE char *made = local_path(&files, "functions/data");
    assert_int_equal(symlink(one, made), 0); /* made in its place, not moved there */
    expect_call(&ear);
    ear_close(&ear);
}

/* Two paths of one folder: it is heard of until both are gone. */
static void test_watcher_knows_two_paths(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct ear ear;
    CLEANUP_FREE char *other = local_path(&files, "tmp/../functions");
    ear_open(&ear);
    assert_ok(watcher_add(ear.watcher, other, &err));
    watcher_begin(ear.watcher);
    assert_ok(watcher_add(ear.watcher, other, &err));
    watcher_end(ear.watcher);
    local_write(&files, "functions/a", "x");
    expect_call(&ear);
    watcher_begin(ear.watcher);
    watcher_end(ear.watcher);
    int before = ear.calls;
    local_write(&files, "functions/a", "y");
    listen_for(&ear, 200);
    assert_int_equal(ear.calls, before);
    ear_close(&ear);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_handler_copies),
        CASE(test_handler_in_sub_folder),
        CASE(test_no_handler),
        CASE(test_alike_versions),
        CASE(test_state_folder),
        CASE(test_watcher_hears),
        CASE(test_watcher_waits_for_the_end),
        CASE(test_watcher_finds_a_lost_folder),
        CASE(test_watcher_follows_links),
        CASE(test_watcher_knows_two_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
