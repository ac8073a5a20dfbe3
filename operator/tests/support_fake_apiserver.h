/* support_fake_apiserver.h - an API server of answers written down beforehand, on a real socket of 127.0.0.1 (plain HTTP/1.1).
 *
 * A request takes the first answer that is not used up and whose `match` is part of its first line, such as
 * "GET /api/v1/pods?limit=500". Without one, a watch is accepted and stays silent, anything else gets 404.
 *
 * Threads: one per connection; every function from any thread. fake_apiserver_stop() ends and joins all.
 */
#ifndef CICADA_TESTS_SUPPORT_FAKE_APISERVER_H
#define CICADA_TESTS_SUPPORT_FAKE_APISERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "operator/kube/kube_client.h"
#include "runtime/base/clock.h"

enum fake_ending {
    FAKE_END_CLEAN,
    FAKE_END_HALF,  /* the connection closes before the answer is whole */
    FAKE_END_RESET, /* the same by RST */
    FAKE_END_HANG,  /* nothing more comes, but for fake_apiserver_push() */
};

struct fake_answer {
    const char *match;
    int status;          /* 0: 200 */
    const char *headers; /* more header lines, each ended by \r\n, or NULL */
    const char *body;    /* NULL: empty */
    size_t chunk_bytes;  /* 0: Content-Length and one write; else chunks of this size, each written alone */
    enum fake_ending ending;
    int times; /* how often; 0: once, -1: for ever */
};

struct fake_apiserver;
struct fake_apiserver *fake_apiserver_start(void);
void fake_apiserver_stop(struct fake_apiserver *server);
const char *fake_apiserver_url(const struct fake_apiserver *server);
/* A client of it. token_file: NULL for none; clock: NULL for the system's. */
struct kube_client *fake_apiserver_client(const struct fake_apiserver *server, const char *token_file,
                                          const struct clock *clock, const struct stop *stop);

void fake_apiserver_answer(struct fake_apiserver *server, const struct fake_answer *answer); /* copied */
/* Drops the answers that are left for this match. */
void fake_apiserver_forget(struct fake_apiserver *server, const char *match);
/* From now on requests with another bearer token get 401; NULL: any will do. */
void fake_apiserver_require_token(struct fake_apiserver *server, const char *token);
/* Sends more bytes on every hanging answer whose request matches; "" ends it cleanly. Returns to how many. */
int fake_apiserver_push(struct fake_apiserver *server, const char *match, const char *text);

/* Requests that came in whole, counted by a part of their first line. */
int fake_apiserver_count(struct fake_apiserver *server, const char *match);
bool fake_apiserver_wait(struct fake_apiserver *server, const char *match, int count, int64_t timeout_ms);
/* The latest such request, head and body as they came; "" if there is none. The caller frees it. */
char *fake_apiserver_request(struct fake_apiserver *server, const char *match);

#endif
