#include "runtime/tests/support_http_client.h"

#include "runtime/base/mem.h"

struct http_client *test_client(int port, const struct stop *stop)
{
    CLEANUP_FREE char *url = xasprintf("http://127.0.0.1:%d", port);
    const struct http_client_settings settings = {.base_url = url, .connect_timeout_ms = 1000, .stop = stop};
    return http_client_new(&settings);
}

struct http_client_request test_get(const char *path)
{
    return (struct http_client_request){.method = "GET",
                                        .path_and_query = path,
                                        .timeout_ms = 5000,
                                        .max_response_bytes = TEST_ANSWER_MAX_BYTES};
}

int test_collect(void *arg, const char *data, size_t len, struct err *err)
{
    return strbuf_append(arg, data, len) < 0 ? err_set(err, ERR_TOO_LARGE, "collected too much") : 0;
}
