#include "operator/kube/kube_status.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"

struct example {
    int status;
    enum err_code code;
    const char *body;
    const char *message;
};

static void test_answers_become_codes(void **state)
{
    (void)state;
    static const struct example examples[] = {
        {401, ERR_UNAUTHORIZED, "{\"message\":\"Unauthorized\"}", "Unauthorized"},
        {403, ERR_FORBIDDEN, "{\"message\":\"no\",\"reason\":\"Forbidden\"}", "no"},
        {404, ERR_NOT_FOUND, "{\"message\":\"pods \\\"a\\\" not found\"}", "pods \"a\" not found"},
        {404, ERR_NOT_FOUND, "404 page not found\n", "HTTP status 404: 404 page not found"},
        {409, ERR_ALREADY_EXISTS, "{\"reason\":\"AlreadyExists\",\"message\":\"m\"}", "m"},
        {409, ERR_CONFLICT, "{\"reason\":\"Conflict\",\"message\":\"m\"}", "m"},
        {409, ERR_CONFLICT, "", "HTTP status 409"},
        {410, ERR_GONE, "{\"reason\":\"Expired\"}", "HTTP status 410: Expired"},
        {413, ERR_TOO_LARGE, "{}", "HTTP status 413"},
        {422, ERR_INVALID, "{\"reason\":\"Invalid\",\"message\":\"spec.x: bad\"}", "spec.x: bad"},
        {400, ERR_INVALID, "{\"message\":\"bad request\"}", "bad request"},
        {415, ERR_INVALID, "{}", "HTTP status 415"},
        {429, ERR_THROTTLED, "{\"message\":\"slow\"}", "slow"},
        {500, ERR_UNAVAILABLE, "{\"message\":\"boom\"}", "boom"},
        {500, ERR_INVALID, "{\"message\":\"failed to create typed patch object: errors\"}",
         "failed to create typed patch object: errors"},
        {502, ERR_UNAVAILABLE, "<html>Bad Gateway</html>", "HTTP status 502"},
        {503, ERR_UNAVAILABLE, "{\"message\": 1", "HTTP status 503"},
        {504, ERR_UNAVAILABLE, "[]", "HTTP status 504: []"},
        {302, ERR_UNAVAILABLE, "", "HTTP status 302"},
        {500, ERR_UNAVAILABLE, "plain \x01 text", "HTTP status 500: plain "},
    };
    for (size_t i = 0; i < ARRAY_SIZE(examples); i++) {
        const struct example *example = &examples[i];
        struct err err = ERR_INIT;
        assert_int_equal(
            kube_status_from_answer(example->status, 0, example->body, strlen(example->body), &err), -1);
        assert_string_equal(err.msg, example->message);
        assert_int_equal(err.code, example->code);
        assert_int_equal(err.retry_after_ms, 0);
    }
}

static void test_retry_after(void **state)
{
    (void)state;
    static const char body[] = "{\"message\":\"slow\",\"details\":{\"retryAfterSeconds\":3}}";
    struct err err = ERR_INIT;
    kube_status_from_answer(429, 7000, body, strlen(body), &err);
    assert_int_equal(err.retry_after_ms, 7000);
    kube_status_from_answer(429, 0, body, strlen(body), &err);
    assert_int_equal(err.retry_after_ms, 3000);
    kube_status_from_answer(429, 2000, "busy", 4, &err);
    assert_int_equal(err.retry_after_ms, 2000);
    assert_string_equal(err.msg, "HTTP status 429: busy");
}

static void test_a_status_object_has_its_own_code(void **state)
{
    (void)state;
    CLEANUP_JSON cJSON *status = cJSON_CreateObject();
    json_add_int64(status, "code", 410);
    json_add_string(status, "message", "too old resource version");
    struct err err = ERR_INIT;
    assert_int_equal(kube_status_from_object(status, &err), -1);
    assert_int_equal(err.code, ERR_GONE);
    assert_string_equal(err.msg, "too old resource version");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_become_codes),
        cmocka_unit_test(test_retry_after),
        cmocka_unit_test(test_a_status_object_has_its_own_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
