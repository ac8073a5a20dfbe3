#include "operator/kube/kube_transport_curl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#include "operator/tests/support_fake_apiserver.h"
#include "runtime/base/mem.h"

struct fake_clock {
    struct clock base;
    int64_t now_ms;
};

static int64_t fake_now(const struct clock *self)
{
    return ((const struct fake_clock *)(const void *)self)->now_ms; /* base is its first member */
}

struct fixture {
    struct fake_apiserver *server;
    struct fake_clock clock;
    char token_file[64];
    struct kube_client *client;
};

static void write_token(struct fixture *fixture, const char *token)
{
    FILE *file = fopen(fixture->token_file, "we");
    assert_non_null(file);
    assert_true(fputs(token, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static int setup(void **state)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));
    fixture->server = fake_apiserver_start();
    fixture->clock =
        (struct fake_clock){.base = {.monotonic_ms = fake_now, .wall_ms = fake_now}, .now_ms = 1000};
    snprintf(fixture->token_file, sizeof(fixture->token_file), "/tmp/cicada-test-token-XXXXXX");
    int fd = mkstemp(fixture->token_file);
    assert_true(fd >= 0);
    close(fd);
    write_token(fixture, "one\n");
    fixture->client =
        fake_apiserver_client(fixture->server, fixture->token_file, &fixture->clock.base, /* stop= */ NULL);
    fake_apiserver_require_token(fixture->server, "one");
    fake_apiserver_answer(fixture->server,
                          &(struct fake_answer){.match = "/version", .body = "{}", .times = -1});
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    kube_client_free(fixture->client);
    fake_apiserver_stop(fixture->server);
    (void)unlink(fixture->token_file);
    free(fixture);
    return 0;
}

static int ask(struct fixture *fixture, struct err *err)
{
    return kube_get_path(fixture->client, "/version", NULL, err);
}

static void expect_ok(struct fixture *fixture, int requests_so_far)
{
    struct err err = ERR_INIT;
    int rc = ask(fixture, &err);
    assert_string_equal(err.msg, "");
    assert_int_equal(rc, 0);
    assert_int_equal(fake_apiserver_count(fixture->server, "/version"), requests_so_far);
}

static void test_a_rotated_token_is_read_within_a_minute(void **state)
{
    struct fixture *fixture = *state;
    expect_ok(fixture, 1);
    write_token(fixture, "two");
    fixture->clock.now_ms += 59999;
    expect_ok(fixture, 2);
    fake_apiserver_require_token(fixture->server, "two");
    fixture->clock.now_ms += 1;
    expect_ok(fixture, 3);
}

static void test_a_refused_token_is_read_again_once(void **state)
{
    struct fixture *fixture = *state;
    expect_ok(fixture, 1);
    write_token(fixture, "two");
    fake_apiserver_require_token(fixture->server, "two");
    expect_ok(fixture, 3);
    expect_ok(fixture, 4);
    fake_apiserver_require_token(fixture->server, "three");
    struct err err = ERR_INIT;
    assert_int_equal(ask(fixture, &err), -1);
    assert_int_equal(err.code, ERR_UNAUTHORIZED);
    assert_int_equal(fake_apiserver_count(fixture->server, "/version"),
                     5); /* the same token is not tried twice */
}

static int ignore_event(void *arg, enum kube_watch_type type, cJSON *object, struct err *err)
{
    (void)type, (void)err;
    ++*(int *)arg;
    cJSON_Delete(object);
    return 0;
}

static void test_a_watch_gets_the_fresh_token_too(void **state)
{
    struct fixture *fixture = *state;
    expect_ok(fixture, 1);
    write_token(fixture, "two");
    fake_apiserver_require_token(fixture->server, "two");
    fake_apiserver_answer(fixture->server,
                          &(struct fake_answer){.match = "watch=true",
                                                .chunk_bytes = 9,
                                                .body = "{\"type\":\"ADDED\",\"object\":{}}\n"});
    struct kube_list_options options = {0};
    int events = 0;
    struct err err = ERR_INIT;
    assert_int_equal(
        kube_watch(fixture->client, &kube_pods, NULL, &options, 300, ignore_event, &events, &err), 0);
    assert_int_equal(events, 1);
    assert_int_equal(fake_apiserver_count(fixture->server, "watch=true"), 2);
}

static void test_an_unreadable_file_leaves_the_last_token(void **state)
{
    struct fixture *fixture = *state;
    expect_ok(fixture, 1);
    fixture->clock.now_ms += 100000;
    write_token(fixture, "");
    expect_ok(fixture, 2);
    fixture->clock.now_ms += 100000;
    assert_int_equal(unlink(fixture->token_file), 0);
    expect_ok(fixture, 3);
}

static void test_without_a_first_token_nothing_is_sent(void **state)
{
    struct fixture *fixture = *state;
    static const char *const useless[] = {"", "\n", "a b", "a\r\nX-Evil: 1", "caf\xc3\xa9"};
    for (size_t i = 0; i < ARRAY_SIZE(useless); i++) {
        write_token(fixture, useless[i]);
        struct err err = ERR_INIT;
        assert_int_equal(ask(fixture, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
    }
    assert_int_equal(fake_apiserver_count(fixture->server, ""), 0);
    write_token(fixture, "one");
    expect_ok(fixture, 1);
}

int main(void)
{
    http_client_global_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_rotated_token_is_read_within_a_minute, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_refused_token_is_read_again_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_watch_gets_the_fresh_token_too, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_unreadable_file_leaves_the_last_token, setup, teardown),
        cmocka_unit_test_setup_teardown(test_without_a_first_token_nothing_is_sent, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
