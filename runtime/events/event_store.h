/* event_store.h - the consumer's side of schema `cicada`, call by call. What each does stands in runtime/schema/README.md.
 *
 * Each call is one transaction on the session, and returns -1 with *error if it failed. A lease is lost when somebody else has the event, or
 * may have it.
 *
 * Threads: that of the session.
 */
#ifndef CICADA_EVENTS_EVENT_STORE_H
#define CICADA_EVENTS_EVENT_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/events/event.h"
#include "runtime/postgres/pg_session.h"

#define EVENT_STORE_LEASES_MAX  1000 /* of one call */
#define EVENT_STORE_HOLDER_SIZE 256

/* Who consumes a queue. */
struct event_consumer {
    const char *namespace, *function, *trigger;
};

/* From now on the session hears of events that come while consumers sleep. */
int event_store_listen(struct pg_session *session, struct pg_error *error) MUST_CHECK;
/* queue NULL: that of a table or schedule trigger. ret_holder: who has it instead; "": it is ours. */
int event_store_consume(struct pg_session *session, const char *queue, const struct event_consumer *consumer,
                        bool ordered, int *ret_queue_id, char ret_holder[EVENT_STORE_HOLDER_SIZE],
                        struct pg_error *error) MUST_CHECK;

struct event_claim {
    int queue_id;
    int most; /* 1 to EVENT_STORE_LEASES_MAX */
    int64_t lease_ms;
    bool idle; /* this process has no event in hand */
};
/* ret_events: `most` places. Returns how many came. ret_alone_waits: one waits for a process to be idle. */
int event_store_claim(struct pg_session *session, const struct event_claim *claim, struct event **ret_events,
                      bool *ret_alone_waits, struct pg_error *error) MUST_CHECK;
/* ret_lost: `count` places for the ids of those that are lost; returns how many. */
int event_store_extend(struct pg_session *session, const struct event_lease *leases, size_t count,
                       int64_t lease_ms, int64_t *ret_lost, struct pg_error *error) MUST_CHECK;
int event_store_give_back(struct pg_session *session, const struct event_lease *leases, size_t count,
                          struct pg_error *error) MUST_CHECK;
/* 1; 0: it is lost. */
int event_store_retry(struct pg_session *session, const struct event_lease *lease, int64_t delay_ms,
                      bool spend, const char *text, struct pg_error *error) MUST_CHECK;
int event_store_bury(struct pg_session *session, const struct event_lease *lease, const char *reason,
                     const char *text, struct pg_error *error) MUST_CHECK;
int event_store_sleep(struct pg_session *session, const int *queue_ids, size_t count,
                      struct pg_error *error) MUST_CHECK;
int event_store_maintain(struct pg_session *session, struct pg_error *error) MUST_CHECK;
/* Forgets up to `most` deduplication keys whose time is over. */
int event_store_purge(struct pg_session *session, int most, struct pg_error *error) MUST_CHECK;

#endif
