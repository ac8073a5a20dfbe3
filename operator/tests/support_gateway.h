/* support_gateway.h - a gateway under test, its functions, and clients that speak raw HTTP to it.
 *
 * Everything fails the test by itself (cmocka); nothing waits longer than TEST_WAIT_MS.
 */
#ifndef CICADA_TESTS_SUPPORT_GATEWAY_H
#define CICADA_TESTS_SUPPORT_GATEWAY_H

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "operator/gateway/gateway.h"
#include "operator/tests/support_gateway_upstream.h"
#include "runtime/base/strbuf.h"

#define TEST_WAIT_MS 15000

/* ---- the gateway ---- */

struct test_gateway {
    struct gateway *gateway;
    struct metrics *metrics;
    int port, internal_port, tls_port; /* tls_port: if settings.tls_listen is given */
    atomic_int wakes;
};

/* settings: NULL for the usual ones (two loops, domain fn.test); listeners, metrics and waker are filled in. */
void test_gateway_start(struct test_gateway *test, const struct gateway_settings *settings);
void test_gateway_stop(struct test_gateway *test);

/* A Function of spec.<json members>, e.g. "\"concurrency\":2,\"http\":{}". */
struct function_spec *test_spec(const char *namespace, const char *name, int created_s, const char *members);
void test_gateway_function(struct test_gateway *test, const char *namespace, const char *name,
                           const char *members);
void test_gateway_pod(struct test_gateway *test, const char *name, const char *uid,
                      const struct sockaddr_in *address, enum gateway_pod_state state,
                      const char *failure_code); /* of function shop/f; address NULL: none yet */
/* Number of `key` in shop/f's entry of /statz; -1: not listed. */
int64_t test_gateway_statz(struct test_gateway *test, const char *key);
double test_gateway_metric(struct test_gateway *test,
                           const char *line_start); /* value of the first such line; -1: none */
/* Waits until it has that value: some are updated a moment after what they count was seen. */
void test_gateway_wait_metric(struct test_gateway *test, const char *line_start, double value);

/* ---- clients ---- */

struct test_client {
    int fd;
    struct ssl_st *ssl; /* NULL: plain; support_gateway_tls.h */
    struct strbuf in;
};

struct test_answer {
    int status;
    struct strbuf head, body; /* body without framing */
    bool chunked, closed;     /* closed: the body ended with the connection, or the head says close */
};

void test_client_open(struct test_client *client, int port);
void test_client_close(struct test_client *client);
void test_client_reset(struct test_client *client); /* closes with RST */
void test_client_send(struct test_client *client, const char *text);
bool test_client_try_send(struct test_client *client, const char *data, size_t len);
/* False: the connection ended before an answer was complete. */
bool test_client_try_read(struct test_client *client, struct test_answer *answer, bool head_only);
void test_client_read(struct test_client *client, struct test_answer *answer, bool head_only);
/* As recv(): what comes next, whatever it is. By TLS, 0 is an end that was told. */
ssize_t test_client_receive(struct test_client *client, char *out, size_t size);
bool test_client_ended(struct test_client *client, int within_ms); /* end of stream, nothing more to read */
bool test_client_readable(struct test_client *client, int within_ms);
void test_answer_release(struct test_answer *answer);
/* Value of a header in storage; "" if it is absent. */
const char *test_answer_header(const struct test_answer *answer, const char *name, char storage[512]);
bool test_answer_has(const struct test_answer *answer, const char *text); /* in the body */

/* One request on a connection of its own; checks the status. text: the whole request. */
void test_call(int port, const char *text, int status, struct test_answer *answer);
void test_call_status(int port, const char *text, int status);

/* Peak memory of this process: gateway, pod and client are all in it. */
long test_peak_memory_kb(void);
long test_memory_kb(void); /* now, without what is shared with others */
/* Waits until condition(arg) holds. */
void test_wait_until(bool (*condition)(void *arg), void *arg, const char *what);
#define TEST_REQUEST(method, path) method " " path " HTTP/1.1\r\nHost: f.shop.fn.test\r\n\r\n"

#endif
