/* http_crowd.h - more connections than threads: who gives way. Internal to runtime/http.
 *
 * A thread of CivetWeb belongs to its connection until that closes; further connections stand in line. While there are such,
 * connections that have been silent for HTTP_CROWD_SILENT_MS or longer are closed, as many as stand in line: kept connections
 * never keep a new one waiting for longer, however many clients keep them.
 *
 * Threads: any.
 */
#ifndef CICADA_HTTP_HTTP_CROWD_H
#define CICADA_HTTP_HTTP_CROWD_H

#include <stdatomic.h>
#include <stdbool.h>

/* A client that sends a request while its connection is closed for being idle may have to send it again: so not at once. */
#define HTTP_CROWD_SILENT_MS 250

struct http_crowd {
    int threads;
    atomic_int open;     /* connections accepted and not yet closed */
    atomic_int queued;   /* of them without a thread */
    atomic_int yielding; /* threads on their way from a silent connection to one of those */
    int event_fd;        /* readable while a silent connection is asked to close; a semaphore */
};

void http_crowd_init(struct http_crowd *crowd, int threads);
void http_crowd_release(struct http_crowd *crowd);

void http_crowd_accepted(struct http_crowd *crowd);
/* A thread takes a connection; yielded: it has closed a silent one for that. */
void http_crowd_taken(struct http_crowd *crowd, bool yielded);
void http_crowd_closed(struct http_crowd *crowd);

/* The calling thread's connection is silent, and event_fd is readable. True: it must close it. */
bool http_crowd_yield(struct http_crowd *crowd);

#endif
