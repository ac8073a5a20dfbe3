/* Database URLs from Secrets: what is read, how long it is kept, and what is said when there is none. */
#include "operator/function/database_secrets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "operator/tests/support_fake_apiserver.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"

#define GET_SECRET "GET /api/v1/namespaces/shop/secrets/shop-db"
#define MINUTE     60000

struct fixture {
    struct clock clock; /* first */
    int64_t now_ms;
    struct fake_apiserver *server;
    struct stop stop;
    struct kube_client *client;
    struct database_secrets *secrets;
};

static int64_t test_time(const struct clock *self)
{
    return ((const struct fixture *)(const void *)self)->now_ms;
}

static void start(struct fixture *fixture)
{
    memset(fixture, 0, sizeof *fixture);
    fixture->clock = (struct clock){.monotonic_ms = test_time, .wall_ms = test_time};
    fixture->now_ms = 1000;
    fixture->server = fake_apiserver_start();
    stop_init(&fixture->stop);
    fixture->client = fake_apiserver_client(fixture->server, NULL, NULL, &fixture->stop);
    fixture->secrets = database_secrets_new(fixture->client, &fixture->clock);
}

static void finish(struct fixture *fixture)
{
    database_secrets_free(fixture->secrets);
    stop_set(&fixture->stop);
    kube_client_free(fixture->client);
    fake_apiserver_stop(fixture->server);
    stop_release(&fixture->stop);
}

static void say(struct fixture *fixture, int status, const char *body)
{
    struct fake_answer answer = {.match = GET_SECRET, .status = status, .body = body};
    fake_apiserver_answer(fixture->server, &answer);
}

static void say_url(struct fixture *fixture, const char *key, const char *value)
{
    CLEANUP_STRBUF struct strbuf encoded;
    strbuf_init(&encoded, 65536);
    assert_int_equal(strbuf_append_base64(&encoded, value, strlen(value)), 0);
    CLEANUP_FREE char *body = xasprintf("{\"data\":{\"%s\":\"%s\"}}", key, encoded.buf);
    say(fixture, 200, body);
}

/* NULL: an error of that code, whose text is in *message. */
static void expect(struct fixture *fixture, int64_t max_age_ms, const char *url, enum err_code code,
                   const char *message)
{
    CLEANUP_FREE char *found = NULL;
    struct err err = ERR_INIT;
    int result = database_secrets_get(fixture->secrets, "shop", "shop-db", "url", max_age_ms, &found, &err);
    assert_int_equal(err.code, code);
    if (url) {
        assert_int_equal(result, 0);
        assert_string_equal(found, url);
    } else {
        assert_int_equal(result, -1);
        assert_null(found);
        assert_non_null(strstr(err.msg, message));
    }
}

static int reads(struct fixture *fixture)
{
    return fake_apiserver_count(fixture->server, GET_SECRET);
}

static void test_what_was_read_is_kept_for_a_while(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture);
    say_url(&fixture, "url", "postgresql://a");
    expect(&fixture, MINUTE, "postgresql://a", ERR_NONE, NULL);
    fixture.now_ms += MINUTE;
    expect(&fixture, MINUTE, "postgresql://a", ERR_NONE, NULL);
    assert_int_equal(reads(&fixture), 1);
    fixture.now_ms += 1;
    say_url(&fixture, "url", "postgresql://b");
    expect(&fixture, MINUTE, "postgresql://b", ERR_NONE, NULL);
    /* Somebody was told that the password is wrong. */
    fixture.now_ms += 10;
    say_url(&fixture, "url", "postgresql://c");
    expect(&fixture, 5, "postgresql://c", ERR_NONE, NULL);
    assert_int_equal(reads(&fixture), 3);
    finish(&fixture);
}

static void test_a_secret_that_goes_takes_its_url_with_it(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture);
    say_url(&fixture, "url", "postgresql://a");
    expect(&fixture, MINUTE, "postgresql://a", ERR_NONE, NULL);
    fixture.now_ms += MINUTE + 1;
    say(&fixture, 404, "{\"kind\":\"Status\",\"code\":404,\"reason\":\"NotFound\",\"message\":\"no\"}");
    expect(&fixture, MINUTE, NULL, ERR_NOT_FOUND, "Secret shop-db does not exist in namespace shop");
    expect(&fixture, MINUTE, NULL, ERR_NOT_FOUND, "does not exist");
    assert_int_equal(reads(&fixture), 2);
    fixture.now_ms += 5001; /* it is looked for again sooner than one that is there */
    say_url(&fixture, "other", "x");
    expect(&fixture, MINUTE, NULL, ERR_NOT_FOUND, "Secret shop-db has no key url");
    fixture.now_ms += 5001;
    say_url(&fixture, "url", "postgresql://b");
    expect(&fixture, MINUTE, "postgresql://b", ERR_NONE, NULL);
    finish(&fixture);
}

static void test_an_api_server_that_is_away_takes_nothing_away(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture);
    say(&fixture, 503, "{\"kind\":\"Status\",\"code\":503,\"message\":\"etcd\"}");
    expect(&fixture, MINUTE, NULL, ERR_UNAVAILABLE, "Secret shop-db: ");
    fixture.now_ms += 5001;
    say_url(&fixture, "url", "postgresql://a");
    expect(&fixture, MINUTE, "postgresql://a", ERR_NONE, NULL);
    fixture.now_ms += MINUTE + 1;
    say(&fixture, 503, "{\"kind\":\"Status\",\"code\":503,\"message\":\"etcd\"}");
    expect(&fixture, MINUTE, "postgresql://a", ERR_NONE, NULL);
    finish(&fixture);
}

static void test_a_value_that_is_no_url_is_not_repeated(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture);
    say(&fixture, 200, "{\"data\":{\"url\":\"aHVudGVy*\"}}");
    expect(&fixture, MINUTE, NULL, ERR_INVALID, "key url of Secret shop-db is no text of at most 8192 bytes");
    fixture.now_ms += 5001;
    CLEANUP_FREE char *lots = xcalloc(1, DATABASE_URL_MAX_BYTES + 2);
    memset(lots, 'a', DATABASE_URL_MAX_BYTES + 1);
    say_url(&fixture, "url", lots);
    expect(&fixture, MINUTE, NULL, ERR_INVALID, "is no text of at most");
    fixture.now_ms += 5001;
    say(&fixture, 403, "{\"kind\":\"Status\",\"code\":403,\"reason\":\"Forbidden\",\"message\":\"no\"}");
    expect(&fixture, MINUTE, NULL, ERR_FORBIDDEN, "Secret shop-db: ");
    finish(&fixture);
}

static void test_what_nobody_wants_is_dropped(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture);
    say_url(&fixture, "url", "postgresql://a");
    expect(&fixture, MINUTE, "postgresql://a", ERR_NONE, NULL);
    fixture.now_ms += 600001;
    say(&fixture, 503, "{\"kind\":\"Status\",\"code\":503,\"message\":\"etcd\"}");
    expect(&fixture, MINUTE, NULL, ERR_UNAVAILABLE, "Secret shop-db");
    finish(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_read_is_kept_for_a_while),
        cmocka_unit_test(test_a_secret_that_goes_takes_its_url_with_it),
        cmocka_unit_test(test_an_api_server_that_is_away_takes_nothing_away),
        cmocka_unit_test(test_a_value_that_is_no_url_is_not_repeated),
        cmocka_unit_test(test_what_nobody_wants_is_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
