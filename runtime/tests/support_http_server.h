/* support_http_server.h - a server whose handler does what the path says, for the tests of http_server.
 *
 * /echo?MS (the body, read within MS; an error's name), /show (the request), /large, /large-head?BYTES, /stream, /stream-cut, /abort, /close,
 * /wait (until the gate opens), /misuse, /stack, /silent (no answer), /204, /304, and "hello" for all others.
 */
#ifndef CICADA_TESTS_SUPPORT_HTTP_SERVER_H
#define CICADA_TESTS_SUPPORT_HTTP_SERVER_H

#include <stdatomic.h>
#include <stdbool.h>

#include "runtime/base/stop.h"
#include "runtime/http/http_server.h"

#define BODY_MAX_BYTES   100000
#define LARGE_BODY_BYTES (3u << 20)
#define GET(path)        "GET " path " HTTP/1.1\r\nHost: t\r\n\r\n"

extern struct http_server *served_server;
extern int served_port;
extern struct stop served_gate; /* what /wait waits for */
extern atomic_int served_calls; /* of the handler, since the start */
extern struct served_figures {
    atomic_size_t received_bytes, sent_bytes;
    atomic_bool reused;
} served_figures;               /* of the last request whose handler returned */
extern char *served_large_body; /* what /large answers; made by served_group_setup() */

struct http_server_settings served_settings(void);
void served_start_with(const struct http_server_settings *settings);

/* For cmocka. */
int served_group_setup(void **state);
int served_group_teardown(void **state);
int served_start(void **state);
int served_stop(void **state);
#define with_server(test) cmocka_unit_test_setup_teardown(test, served_start, served_stop)

/* True if the connection is still open a moment after an answer. */
bool served_still_open(int fd);
bool served_wait_for_in_flight(int count);
void assert_status(const char *text, int status);
const char *body_of(const char *text);

#endif
