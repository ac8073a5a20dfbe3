/* support_gateway_upstream.h - a function's pod as the gateway sees one: an HTTP/1.1 server on 127.0.0.1 that does what the path
 * says, and keeps count.
 *
 *   /echo            200, the request's body            /head        200, the request's head as it came
 *   /sleep/<ms>      200 after a while                  /status/<n>  that status, body "s"
 *   /size/<n>        n bytes with Content-Length        /chunks/<n>/<size>  n chunks of that size
 *   /open/<n>        n bytes, ended by closing          /count       200, how many body bytes came and their sum
 *   /close           200 with Connection: close         /drop        closes without an answer
 *   /part            begins an answer and closes        /raw         what test_upstream_set_raw() was given,
 *                    /raw/close and closes, /raw/reset and resets, /raw/late and then another answer that nobody asked for
 *   /duplex          echoes each piece as a chunk, at once
 *   /early           413 without reading the body, then closes
 *   /gate            200 once test_upstream_open_gate() let it pass
 *   /hang            nothing, until the client goes
 *   /ws/<what>       101, and then: echo (until the peer ends), head (the request's head, then echo), greet (bytes in one piece
 *                    with the 101, then echo), send/<n> (n bytes, its end; then as count), count (reads until the peer ends, sends
 *                    how much that was, ends), stall (the same, but reads only once the gate lets it), reset (RST), close
 * A "?n=<number>" is noted in the order of arrival.
 */
#ifndef CICADA_TESTS_SUPPORT_GATEWAY_UPSTREAM_H
#define CICADA_TESTS_SUPPORT_GATEWAY_UPSTREAM_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>

#define TEST_UPSTREAM_ORDER_MAX 4096

struct test_upstream;

struct test_upstream *test_upstream_new(void); /* has a port, listens */
void test_upstream_free(struct test_upstream *upstream);
struct sockaddr_in test_upstream_address(const struct test_upstream *upstream);
void test_upstream_listen(struct test_upstream *upstream); /* on the same port again */
void test_upstream_refuse(struct test_upstream *upstream); /* connections are refused from now on */
void test_upstream_drop_idle(
    struct test_upstream *upstream); /* closes connections that are between requests */

void test_upstream_set_raw(struct test_upstream *upstream, const char *answer);
/* From now on what is read is noted, one line a request: "POST /x [Content-Length: 5] hello". */
void test_upstream_record(struct test_upstream *upstream);
/* What was noted, for the caller to free; begins anew. */
char *test_upstream_heard(struct test_upstream *upstream);
void test_upstream_open_gate(struct test_upstream *upstream, int count);

int test_upstream_requests(struct test_upstream *upstream);    /* heads read */
int test_upstream_connections(struct test_upstream *upstream); /* accepted so far */
int test_upstream_open(struct test_upstream *upstream);        /* open now */
int test_upstream_in_flight(struct test_upstream *upstream);
int test_upstream_in_flight_max(struct test_upstream *upstream);
int test_upstream_open_max(struct test_upstream *upstream);
long long test_upstream_tunnel_bytes(struct test_upstream *upstream); /* -1: /ws/send has not ended yet */
size_t test_upstream_order(struct test_upstream *upstream, int out[TEST_UPSTREAM_ORDER_MAX]);

#endif
