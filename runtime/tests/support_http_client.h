/* support_http_client.h - what the tests of http_client share. */
#ifndef CICADA_TESTS_SUPPORT_HTTP_CLIENT_H
#define CICADA_TESTS_SUPPORT_HTTP_CLIENT_H

#include "runtime/base/stop.h"
#include "runtime/http/http_client.h"

#define TEST_ANSWER_MAX_BYTES 100000

struct http_client *test_client(int port, const struct stop *stop);
struct http_client_request test_get(const char *path);
/* http_client_bytes_fn: appends to a struct strbuf. */
int test_collect(void *arg, const char *data, size_t len, struct err *err);

#endif
