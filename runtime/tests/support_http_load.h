/* support_http_load.h - a client that checks every byte: requests of random size, kept connections, closes, pipelines.
 *
 * It sends to an echo ("/?do=body" of the probe) and knows what must come back, by request id too. Nothing here fails the test by
 * itself: threads may call it; what went wrong is in `error`.
 */
#ifndef CICADA_TESTS_SUPPORT_HTTP_LOAD_H
#define CICADA_TESTS_SUPPORT_HTTP_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/strbuf.h"

#define HTTP_LOAD_BODY_MAX 20000 /* bytes */

struct http_load {
    int port;
    uint64_t random; /* state of the generator; the seed at first */
    int fd;          /* -1: no connection */
    struct strbuf received, sending;
    long long answered, connects;
    char error[512]; /* "": none */
};

struct http_load_batch {
    int requests;      /* sent before the first answer is read */
    bool close_at_end; /* the last one asks for it */
};

void http_load_init(struct http_load *load, int port, uint64_t seed);
void http_load_release(struct http_load *load);
uint64_t http_load_random(struct http_load *load, uint64_t below);
/* Sends, reads and checks. Requests behind an answer with Connection: close are not answered, which is no error; connecting anew is done
 * when needed. False: load->error says what is wrong. */
bool http_load_run(struct http_load *load, const struct http_load_batch *batch);
/* Sends a part of a request, or of several, and closes. */
bool http_load_abandon(struct http_load *load);

#endif
