#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/stop.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"
#include "runtime/base/version.h"
#include "runtime/http/http_client.h"
#include "runtime/http/http_server.h"
#include "runtime/tests/support_http_client.h"
#include "runtime/tests/support_test.h"

/* ---- a server that says what it was asked ---- */

static struct http_server *server;
static struct stop stop;

static void handler(void *arg, struct http_request *req)
{
    (void)arg;
    struct err err = ERR_INIT;
    const char *path = http_request_raw_path(req);
    const char *body = NULL;
    size_t len = 0;
    CLEANUP_STRBUF struct strbuf out;
    strbuf_init(&out, 1u << 20);
    if (http_request_body(req, clock_monotonic_ms() + 5000, &body, &len, &err) < 0) {
        return;
    }
    if (strcmp(path, "/show") == 0) {
        strbuf_appendf(&out, "%s %s?%s\n", http_request_method(req), path,
                       http_request_query(req) ? http_request_query(req) : "");
        for (size_t i = 0; i < http_request_header_count(req); i++) {
            const struct http_header *header = &http_request_headers(req)[i];
            strbuf_appendf(&out, "%s: %s\n", header->name, header->value);
        }
        strbuf_appendf(&out, "[%.*s]", (int)len, body);
        (void)!http_request_respond(req, 200, NULL, 0, out.buf, out.len, &err);
    } else if (strcmp(path, "/busy") == 0) {
        static const struct http_header headers[] = {{"Retry-After", "3"}};
        (void)!http_request_respond(req, 429, headers, 1, "slow down", 9, &err);
    } else if (strcmp(path, "/redirect") == 0) {
        static const struct http_header headers[] = {{"Location", "/show"}};
        (void)!http_request_respond(req, 302, headers, 1, NULL, 0, &err);
    } else if (strcmp(path, "/pieces") == 0) {
        (void)!http_request_stream_begin(req, 200, NULL, 0, &err);
        for (int i = 0; i < 50; i++) {
            char line[32];
            snprintf(line, sizeof(line), "line %d\n", i);
            (void)!http_request_stream_chunk(req, line, strlen(line), &err);
        }
        (void)!http_request_stream_end(req, &err);
    } else {
        (void)!http_request_respond(req, 404, NULL, 0, "none", 4, &err);
    }
}

static int set_up(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    const struct http_server_settings settings = {.listen = "127.0.0.1:0",
                                                  .threads = 16,
                                                  .max_body_bytes = 1 << 20,
                                                  .header_timeout_ms = 5000,
                                                  .keep_alive_timeout_ms = 5000,
                                                  .handler = handler};
    assert_ok(http_server_start(&settings, &server, &err));
    stop_init(&stop);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    http_server_stop(server);
    stop_release(&stop);
    return 0;
}

static void sends_what_it_is_given(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct http_client *client = test_client(http_server_port(server), &stop);
    struct http_client_response response;
    struct http_client_request request = test_get("/show?a=%2F&b=c");
    assert_ok(http_client_request(client, &request, &response, &err));
    assert_int_equal(response.status, 200);
    assert_int_equal(response.retry_after_ms, 0);
    CLEANUP_FREE char *expected = xasprintf(
        "GET /show?a=%%2F&b=c\nHost: 127.0.0.1:%d\nUser-Agent: cicada/%s\nAccept: application/json\n[]",
        http_server_port(server), CICADA_VERSION);
    assert_string_equal(response.body.buf, expected);
    http_client_response_release(&response);

    static const char *const methods[] = {"POST", "PUT", "PATCH", "DELETE"};
    for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
        request = (struct http_client_request){.method = methods[i],
                                               .path_and_query = "/show",
                                               .bearer_token = "token",
                                               .content_type = "application/apply-patch+yaml",
                                               .accept = "text/x",
                                               .body = "body",
                                               .body_len = 4,
                                               .timeout_ms = 5000,
                                               .max_response_bytes = TEST_ANSWER_MAX_BYTES};
        assert_ok(http_client_request(client, &request, &response, &err));
        assert_true(str_starts_with(response.body.buf, methods[i]));
        assert_non_null(strstr(response.body.buf, "\nAuthorization: Bearer token\n"));
        assert_non_null(strstr(response.body.buf, "\nContent-Type: application/apply-patch+yaml\n"));
        assert_non_null(strstr(response.body.buf, "\nAccept: text/x\n"));
        assert_non_null(strstr(response.body.buf, "\nContent-Length: 4\n"));
        assert_true(str_ends_with(response.body.buf, "[body]"));
        http_client_response_release(&response);
    }
    /* Without a body: a length where the method has one by nature, and never curl's own content type. */
    static const char *const lengths[] = {"\nContent-Length: 0\n", "\nContent-Length: 0\n",
                                          "\nContent-Length: 0\n", "DELETE"};
    for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
        request = test_get("/show");
        request.method = methods[i];
        assert_ok(http_client_request(client, &request, &response, &err));
        assert_true(str_starts_with(response.body.buf, methods[i]));
        assert_non_null(strstr(response.body.buf, lengths[i]));
        assert_null(strstr(response.body.buf, "Content-Type"));
        http_client_response_release(&response);
    }
    request = test_get("/show");
    request.method = "HEAD";
    assert_ok(http_client_request(client, &request, &response, &err));
    assert_int_equal(response.status, 200);
    assert_int_equal(response.body.len, 0);
    http_client_response_release(&response);
    http_client_free(client);
    http_client_free(NULL);
}

static void large_bodies_go_without_expect(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct http_client *client = test_client(http_server_port(server), &stop);
    size_t len = 1 << 20; /* from here on curl would ask first */
    CLEANUP_FREE char *body = xmalloc(len);
    memset(body, 'b', len);
    struct http_client_request request = test_get("/show");
    request.method = "POST";
    request.body = body;
    request.body_len = len;
    request.max_response_bytes = 2u << 20;
    struct http_client_response response;
    assert_ok(http_client_request(client, &request, &response, &err));
    assert_null(strstr(response.body.buf, "Expect"));
    http_client_response_release(&response);
    http_client_free(client);
}

static void any_status_is_an_answer(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct http_client *client = test_client(http_server_port(server), &stop);
    struct http_client_response response;
    struct http_client_request request = test_get("/nothing");
    assert_ok(http_client_request(client, &request, &response, &err));
    assert_int_equal(response.status, 404);
    assert_string_equal(response.body.buf, "none");
    http_client_response_release(&response);
    request = test_get("/busy");
    assert_ok(http_client_request(client, &request, &response, &err));
    assert_int_equal(response.status, 429);
    assert_int_equal(response.retry_after_ms, 3000);
    http_client_response_release(&response);
    request = test_get("/redirect");
    assert_ok(http_client_request(client, &request, &response, &err));
    assert_int_equal(response.status, 302);
    http_client_response_release(&response);
    http_client_free(client);
}

static void refuses_requests_that_would_be_others(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct http_client *client = test_client(http_server_port(server), &stop);
    struct http_client_response response;
    static const char *const paths[] = {"", "show", "/a b", "/a\r\nX: y", "/\x01", "@evil/"};
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        struct http_client_request request = test_get(paths[i]);
        assert_fails(http_client_request(client, &request, &response, &err), ERR_INVALID);
        http_client_response_release(&response);
    }
    struct http_client_request request = test_get("/show");
    request.bearer_token = "a\r\nX: y";
    assert_fails(http_client_request(client, &request, &response, &err), ERR_INVALID);
    request.bearer_token = NULL;
    request.accept = "a\nb";
    assert_fails(http_client_request(client, &request, &response, &err), ERR_INVALID);
    request.accept = NULL;
    request.content_type = "a\nb";
    assert_fails(http_client_request(client, &request, &response, &err), ERR_INVALID);
    http_client_free(client);
}

/* The environment's proxies are not for us. */
static void takes_no_proxy(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    struct http_client *client = test_client(http_server_port(server), &stop);
    struct http_client_response response;
    struct http_client_request request = test_get("/show");
    assert_ok(http_client_request(client, &request, &response, &err));
    http_client_response_release(&response);
    http_client_free(client);
    unsetenv("http_proxy");
    unsetenv("ALL_PROXY");
}

static void streams_hand_over_bytes_as_they_come(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct http_client *client = test_client(http_server_port(server), &stop);
    struct http_client_response response;
    struct http_client_request request = test_get("/pieces");
    request.max_response_bytes = 4; /* is for collected answers only */
    CLEANUP_STRBUF struct strbuf got;
    strbuf_init(&got, 10000);
    assert_ok(http_client_stream(client, &request, test_collect, &got, &response, &err));
    assert_int_equal(response.status, 200);
    assert_int_equal(response.body.len, 0);
    assert_true(str_starts_with(got.buf, "line 0\nline 1\n"));
    assert_true(str_ends_with(got.buf, "line 49\n"));
    http_client_response_release(&response);
    http_client_free(client);
}

static void streams_collect_other_statuses(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct http_client *client = test_client(http_server_port(server), &stop);
    struct http_client_response response;
    struct http_client_request request = test_get("/busy");
    CLEANUP_STRBUF struct strbuf got;
    strbuf_init(&got, 100);
    assert_ok(http_client_stream(client, &request, test_collect, &got, &response, &err));
    assert_int_equal(response.status, 429);
    assert_int_equal(response.retry_after_ms, 3000);
    assert_string_equal(response.body.buf, "slow down");
    assert_int_equal(got.len, 0);
    http_client_response_release(&response);
    http_client_free(client);
}

static void a_callback_can_end_the_stream(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct http_client *client = test_client(http_server_port(server), &stop);
    struct http_client_response response;
    struct http_client_request request = test_get("/pieces");
    CLEANUP_STRBUF struct strbuf got;
    strbuf_init(&got, 3);
    assert_fails(http_client_stream(client, &request, test_collect, &got, &response, &err), ERR_TOO_LARGE);
    assert_string_equal(err.msg, "collected too much");
    request = test_get("/show"); /* the client goes on */
    assert_ok(http_client_request(client, &request, &response, &err));
    http_client_response_release(&response);
    http_client_free(client);
}

static void *request_many(void *arg)
{
    struct err err = ERR_INIT;
    for (int i = 0; i < 100; i++) {
        struct http_client_response response;
        struct http_client_request request = test_get("/show");
        if (http_client_request(arg, &request, &response, &err) < 0 || response.status != 200) {
            abort();
        }
        http_client_response_release(&response);
    }
    return NULL;
}

static void many_threads_share_a_client(void **state)
{
    (void)state;
    struct http_client *client = test_client(http_server_port(server), &stop);
    pthread_t threads[6];
    for (int i = 0; i < 6; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, request_many, client), 0);
    }
    for (int i = 0; i < 6; i++) {
        pthread_join(threads[i], NULL);
    }
    http_client_free(client);
}

int main(void)
{
    http_client_global_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sends_what_it_is_given),
        cmocka_unit_test(large_bodies_go_without_expect),
        cmocka_unit_test(any_status_is_an_answer),
        cmocka_unit_test(refuses_requests_that_would_be_others),
        cmocka_unit_test(takes_no_proxy),
        cmocka_unit_test(streams_hand_over_bytes_as_they_come),
        cmocka_unit_test(streams_collect_other_statuses),
        cmocka_unit_test(a_callback_can_end_the_stream),
        cmocka_unit_test(many_threads_share_a_client),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
