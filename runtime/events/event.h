/* event.h - an event that was claimed from a queue, and the lease by which it is held (runtime/schema). */
#ifndef CICADA_EVENTS_EVENT_H
#define CICADA_EVENTS_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* As long as it holds, nobody else has the event. */
struct event_lease {
    int slot;
    int64_t id;
    int epoch;
};

/* Text is UTF-8 and borrowed from the event. */
struct event {
    struct event_lease lease;
    int trigger; /* which of the consumer's */
    int attempt; /* this one; from 1 */
    int depth;   /* how many events led to it */
    bool alone;  /* nothing else may be at work beside it: its last run has ended without a word */
    const char *source, *type;
    const char *subject;     /* NULL: none, as below */
    const char *time;        /* RFC 3339 */
    const char *headers;     /* a JSON object of strings */
    const char *traceparent; /* of whom sent it */
    const char *payload;     /* JSON */
    size_t payload_len;
    char *text; /* what the above lie in */
};

void event_free(struct event *event); /* NULL is fine */

#endif
