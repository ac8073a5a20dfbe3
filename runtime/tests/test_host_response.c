/* response, response_json, problem, termination: what goes out. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/host/context.h"
#include "runtime/host/response.h"
#include "runtime/host/termination.h"
#include "runtime/tests/support_runtime.h"

struct fixture {
    struct arena arena;
    struct cicada_response response;
};

static struct cicada_response *begin(struct fixture *fixture, size_t max_bytes)
{
    arena_init(&fixture->arena);
    response_init(&fixture->response, &sdk_calls, &fixture->arena, "id-1", 201, max_bytes);
    return &fixture->response;
}

static void end(struct fixture *fixture)
{
    response_release(&fixture->response);
    arena_release(&fixture->arena);
}

static void expect_mistake(struct fixture *fixture, const char *text)
{
    struct err err = ERR_INIT;

    assert_int_equal(response_check(&fixture->response, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    if (strstr(err.msg, text) == NULL)
        fail_msg("expected <%s>, got: %s", text, err.msg);
    end(fixture);
}

static void test_json(void **state)
{
    struct fixture fixture;
    struct cicada_response *res = begin(&fixture, 1000);
    struct err err = ERR_INIT;

    (void)state;
    cicada_response_body(res, "dropped", 7);
    cicada_write_begin_object(res, NULL);
    cicada_write_int64(res, "min", INT64_MIN);
    cicada_write_string(res, "s", "a\"\n\xff");
    cicada_write_string(res, "none", NULL);
    cicada_write_string_n(res, "n", "abc", 2);
    cicada_write_begin_array(res, "a");
    cicada_write_double(res, NULL, 0.1);
    cicada_write_double(res, NULL, 1e300);
    cicada_write_double(res, NULL, NAN);
    cicada_write_double(res, NULL, DBL_EPSILON);
    cicada_write_bool(res, NULL, true);
    cicada_write_null(res, NULL);
    cicada_write_begin_array(res, NULL);
    cicada_write_end(res);
    cicada_write_raw(res, NULL, "{\"x\": 1.10}", 11);
    cicada_write_end(res);
    cicada_write_begin_object(res, "o");
    cicada_write_end(res);
    cicada_write_end(res);
    assert_int_equal(response_check(res, &err), 0);
    assert_string_equal(res->body.buf,
                        "{\"min\":-9223372036854775808,\"s\":\"a\\\"\\n\xef\xbf\xbd\",\"none\":null,"
                        "\"n\":\"ab\",\"a\":[0.1,1e+300,null,2.220446049250313e-16,true,null,[],"
                        "{\"x\": 1.10}],\"o\":{}}");
    assert_int_equal(res->status, 201);
    end(&fixture);
}

static void test_a_scalar_is_a_document(void **state)
{
    struct fixture fixture;
    struct cicada_response *res = begin(&fixture, 1000);
    struct err err = ERR_INIT;

    (void)state;
    cicada_write_int64(res, NULL, 7);
    assert_int_equal(response_check(res, &err), 0);
    assert_string_equal(res->body.buf, "7");
    cicada_write_int64(res, NULL, 8);
    expect_mistake(&fixture, "second value");
}

static void test_mistakes(void **state)
{
    struct fixture fixture;
    char long_value[8001];

    (void)state;
    memset(long_value, 'x', sizeof(long_value) - 1);
    long_value[sizeof(long_value) - 1] = '\0';
    cicada_write_end(begin(&fixture, 10));
    expect_mistake(&fixture, "without a begin");
    cicada_write_int64(begin(&fixture, 10), "name", 1);
    expect_mistake(&fixture, "only members of objects have names");
    cicada_write_begin_object(begin(&fixture, 10), NULL);
    cicada_write_int64(&fixture.response, NULL, 1);
    expect_mistake(&fixture, "needs a name");
    cicada_write_begin_object(begin(&fixture, 10), NULL);
    expect_mistake(&fixture, "were not ended");
    cicada_write_raw(begin(&fixture, 10), NULL, "{", 1);
    expect_mistake(&fixture, "cicada_write_raw");
    cicada_response_status(begin(&fixture, 10), 199);
    expect_mistake(&fixture, "status 199");
    cicada_response_status(begin(&fixture, 10), 600);
    expect_mistake(&fixture, "status 600");
    cicada_response_header(begin(&fixture, 10), "X\r\nY", "1");
    expect_mistake(&fixture, "not allowed");
    cicada_response_header(begin(&fixture, 10), "X", "1\r\nSet-Cookie: a");
    expect_mistake(&fixture, "not allowed");
    cicada_response_header(begin(&fixture, 10), "content-LENGTH", "1");
    expect_mistake(&fixture, "belongs to the runtime");
    (void)cicada_problem(begin(&fixture, 10), 200, "ok", "%s", "");
    expect_mistake(&fixture, "status 200");
    (void)cicada_problem(begin(&fixture, 10), 400, "Not A Code", "%s", "");
    expect_mistake(&fixture, "code \"Not A Code\"");
    begin(&fixture, 10);
    for (int i = 0; i <= RESPONSE_DEPTH_MAX; i++)
        cicada_write_begin_array(&fixture.response, NULL);
    expect_mistake(&fixture, "deeper than");
    begin(&fixture, 10);
    for (int i = 0; i <= RESPONSE_HEADERS_MAX; i++)
        cicada_response_header(&fixture.response, "X", "1");
    expect_mistake(&fixture, "more than");
    begin(&fixture, 10);
    for (int i = 0; i < 4; i++)
        cicada_response_header(&fixture.response, "X", long_value);
    expect_mistake(&fixture, "longer than 24576 bytes together");
}

static void test_size_limit(void **state)
{
    struct fixture fixture;
    struct cicada_response *res = begin(&fixture, 5);
    struct err err = ERR_INIT;

    (void)state;
    cicada_response_body(res, "12345", 5);
    assert_int_equal(response_check(res, &err), 0);
    cicada_response_body(res, "123456", 6);
    assert_int_equal(response_check(res, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    (void)cicada_problem(res, 422, "small", "an error body is let through whatever the limit");
    assert_int_equal(response_check(res, &err), 0);
    end(&fixture);
}

static void test_problem(void **state)
{
    struct fixture fixture;
    struct cicada_response *res = begin(&fixture, 1000);
    const struct problem replaced = {503, "no_database", NULL, "runtime"};

    (void)state;
    cicada_response_header(res, "Allow", "GET");
    cicada_write_begin_object(res, NULL);
    assert_int_equal(cicada_problem(res, 409, "out_of_stock", "only %d \"left\"", 2), CICADA_FAIL);
    assert_int_equal(res->status, 409);
    assert_string_equal(res->content_type, "application/problem+json");
    assert_string_equal(res->body.buf, "{\"type\":\"about:blank\",\"title\":\"Conflict\",\"status\":409,"
                                       "\"code\":\"out_of_stock\",\"detail\":\"only 2 \\\"left\\\"\","
                                       "\"component\":\"function\",\"requestId\":\"id-1\"}\n");
    assert_int_equal(res->header_count, 1);
    response_set_problem(res, &replaced, 7);
    assert_int_equal(res->header_count, 1);
    assert_string_equal(res->headers[0].name, "Retry-After");
    assert_string_equal(res->headers[0].value, "7");
    assert_null(strstr(res->body.buf, "detail"));
    end(&fixture);
}

static void test_content_type(void **state)
{
    struct fixture fixture;
    struct cicada_response *res = begin(&fixture, 1000);

    (void)state;
    cicada_response_header(res, "Content-Type", "application/geo+json");
    cicada_write_begin_object(res, NULL);
    cicada_write_end(res);
    assert_string_equal(res->content_type, "application/geo+json");
    /* A problem that the handler thinks better of takes its type along. */
    (void)cicada_problem(res, 409, "taken", "%s", "");
    cicada_response_body(res, "x", 1);
    assert_null(res->content_type);
    (void)cicada_problem(res, 409, "taken", "%s", "");
    cicada_write_int64(res, NULL, 7);
    assert_null(res->content_type);
    end(&fixture);
}

static void test_termination_message(void **state)
{
    char path[] = "/tmp/cicada-termination.XXXXXX";
    int fd = mkstemp(path);
    CLEANUP_FREE char *text = NULL;
    char message[5000];
    struct err err = ERR_INIT;

    (void)state;
    fd_close_p(&fd);
    memset(message, 1, sizeof(message)); /* six bytes each when escaped */
    message[sizeof(message) - 1] = '\0';
    assert_int_equal(termination_write(path, "HandlerLoadFailed", message, &err), 0);
    text = runtime_process_read(path);
    assert_in_range(strlen(text), 3000, TERMINATION_MAX_BYTES);
    assert_string_equal(text + strlen(text) - 2, "\"}");
    assert_int_equal(termination_write(path, "R", "m", &err), 0);
    free(text);
    text = runtime_process_read(path);
    assert_string_equal(text, "{\"reason\":\"R\",\"message\":\"m\"}");
    assert_int_equal(termination_write("/nowhere/at/all", "R", "m", &err), -1);
    remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_a_scalar_is_a_document),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_size_limit),
        cmocka_unit_test(test_problem),
        cmocka_unit_test(test_content_type),
        cmocka_unit_test(test_termination_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
