/* event_batch.h - the events of one invocation, and how far its handler has come with them.
 *
 * The handler may take them one by one (event_batch_next()): then each is worked on in a part of the transaction of its own, and one
 * that failed is undone with all that it wrote. Those that it has not taken when it returns are not done. A handler that takes none
 * has worked on all of them at once.
 *
 * Threads: that of the invocation.
 */
#ifndef CICADA_HOST_EVENT_BATCH_H
#define CICADA_HOST_EVENT_BATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/strbuf.h"
#include "runtime/events/event.h"
#include "runtime/events/outcome.h"
#include "runtime/events/settlement.h"
#include "runtime/host/cloud_event.h"
#include "runtime/host/database.h"

struct json_node;

/* An event of a queue as the host needs it. */
struct event_item {
    const struct event *event;
    struct cloud_event cloud;
    struct pg_setting settings[PG_TRANSACTION_SETTINGS_MAX]; /* what events that it leads to inherit */
    char id[24], attempt[16], depth[16];
    struct field extensions[3];
    bool failed;
    struct event_result failure; /* if it has */
};

/* Borrows the event. traceparent: of the run, borrowed too. */
void event_item_init(struct event_item *item, const struct event *event, const char *traceparent);

struct event_batch {
    struct event_item *items;
    size_t count;
    size_t taken;                 /* by the handler */
    bool has_current;             /* the last one that was taken... */
    bool open;                    /* ...and its part of the transaction is open */
    const struct json_node *node; /* of the current one in the request's array; the caller's */
};

/* The request's body: an array of all of them, as documents. */
void event_batch_print(const struct event_batch *batch, struct strbuf *out);

/* Before each run of the handler: it has taken none. */
void event_batch_reset(struct event_batch *batch);
/* The current event; NULL: none is. */
struct event_item *event_batch_current(const struct event_batch *batch);
/* The next one becomes current, and what was done for the one before is kept, or undone if that failed. False: there is none, or the
 * transaction is of no further use. */
bool event_batch_next(struct event_batch *batch, struct database *database);
/* The current event has failed, and what is written until the next one is undone with it. status: as of an answer, or 0: by the error of
 * the database, if there is one. -1: there is none, or what it wrote was committed. */
int event_batch_fail(struct event_batch *batch, const struct database *database, int status,
                     const char *text);
/* The part of the current one ends. -1: the transaction is of no further use. */
int event_batch_close(struct event_batch *batch, struct database *database);

/* Whether it is done, should the transaction be committed. */
bool event_batch_is_done(const struct event_batch *batch, size_t index);
/* All that are. */
void event_batch_settle(const struct event_batch *batch, struct settlement *settlement);

#endif
