#include "operator/kube/kube_status.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"

struct example {
    int status;
    const char *body;
    enum err_code code;
    const char *message;
};

static void test_answers_become_codes(void **state)
{
    (void)state;
    static const struct example examples[] = {
        {401, "{\"message\":\"Unauthorized\"}", ERR_UNAUTHORIZED, "Unauthorized"},
        {403, "{\"message\":\"no\",\"reason\":\"Forbidden\"}", ERR_FORBIDDEN, "no"},
        {404, "{\"message\":\"pods \\\"a\\\" not found\"}", ERR_NOT_FOUND, "pods \"a\" not found"},
        {404, "404 page not found\n", ERR_NOT_FOUND, "HTTP status 404: 404 page not found"},
        {409, "{\"reason\":\"AlreadyExists\",\"message\":\"m\"}", ERR_ALREADY_EXISTS, "m"},
        {409, "{\"reason\":\"Conflict\",\"message\":\"m\"}", ERR_CONFLICT, "m"},
        {409, "", ERR_CONFLICT, "HTTP status 409"},
        {410, "{\"reason\":\"Expired\"}", ERR_GONE, "HTTP status 410: Expired"},
        {413, "{}", ERR_TOO_LARGE, "HTTP status 413"},
        {422, "{\"reason\":\"Invalid\",\"message\":\"spec.x: bad\"}", ERR_INVALID, "spec.x: bad"},
        {400, "{\"message\":\"bad request\"}", ERR_INVALID, "bad request"},
        {415, "{}", ERR_INVALID, "HTTP status 415"},
        {429, "{\"message\":\"slow\"}", ERR_THROTTLED, "slow"},
        {500, "{\"message\":\"boom\"}", ERR_UNAVAILABLE, "boom"},
        {500, "{\"message\":\"failed to create typed patch object: errors\"}", ERR_INVALID,
         "failed to create typed patch object: errors"},
        {502, "<html>Bad Gateway</html>", ERR_UNAVAILABLE, "HTTP status 502"},
        {503, "{\"message\": 1", ERR_UNAVAILABLE, "HTTP status 503"},
        {504, "[]", ERR_UNAVAILABLE, "HTTP status 504: []"},
        {302, "", ERR_UNAVAILABLE, "HTTP status 302"},
        {500, "plain \x01 text", ERR_UNAVAILABLE, "HTTP status 500: plain "},
    };
    for (size_t i = 0; i < ARRAY_SIZE(examples); i++) {
        const struct example *example = &examples[i];
        struct err err = ERR_INIT;
        assert_int_equal(kube_status_from_answer(example->status, 0, example->body, strlen(example->body), &err), -1);
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
