/* backlog_store.h - what the operator asks of schema `cicada`, call by call. What each does stands in runtime/schema/README.md.
 *
 * Each call is one transaction on the session, and returns -1 with *error if it failed.
 *
 * Threads: that of the session.
 */
#ifndef CICADA_BACKLOG_BACKLOG_STORE_H
#define CICADA_BACKLOG_BACKLOG_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/strbuf.h"
#include "runtime/postgres/pg_session.h"

#define STORE_QUEUE_SIZE  64
#define STORE_HOLDER_SIZE 256
#define STORE_PING        "here" /* what store_notify() says on the channel */

struct function_trigger;

/* Whose trigger. */
struct store_trigger {
    const char *namespace, *function, *trigger;
};

/* No call here has an answer of more: the database is a stranger's, and there may be many of them. */
#define STORE_RESULT_MAX_BYTES ((size_t)4 << 20)

/* Notifications of `cicada_wake`, and of the session's own channel. */
int store_listen(struct pg_session *session, const char *channel, struct pg_error *error) MUST_CHECK;
int store_notify(struct pg_session *session, const char *channel, struct pg_error *error) MUST_CHECK;

/* Version of the schema and the oldest runtime that it takes. 0: it is not there (*ret_absent), or this role is not let in. */
int store_version(struct pg_session *session, int *ret_version, char *ret_min_runtime, size_t size,
                  bool *ret_absent, struct pg_error *error) MUST_CHECK;

int store_max_connections(struct pg_session *session, int *ret_number, struct pg_error *error) MUST_CHECK;

/* ---- queues ---- */

int store_queue_name(struct pg_session *session, const struct store_trigger *who,
                     char ret_queue[STORE_QUEUE_SIZE], struct pg_error *error) MUST_CHECK;
/* ret_holder: who has the queue instead; "": it is ours. */
int store_consume(struct pg_session *session, const char *queue, const struct store_trigger *who,
                  bool ordered, char ret_holder[STORE_HOLDER_SIZE], struct pg_error *error) MUST_CHECK;
/* *ret_gone, of a table's or schedule's trigger: false, its queue still holds something, and it wants another call. */
int store_release(struct pg_session *session, const char *queue, const struct store_trigger *who,
                  bool *ret_gone, struct pg_error *error) MUST_CHECK;

struct store_stats {
    const char *queue;
    const char *consumer; /* "": none */
    int queue_id;
    int64_t due, delayed, leased, blocked, dead;
    bool capped;
    double oldest_s;
};
typedef void store_stats_fn(void *arg, const struct store_stats *stats);
/* What these queues hold. First it is said of those in sleep_ids (NULL: none) that their consumer sleeps. */
int store_stats(struct pg_session *session, const char *queues, const char *sleep_ids, store_stats_fn *each,
                void *arg, struct pg_error *error) MUST_CHECK;

int store_maintain(struct pg_session *session, struct pg_error *error) MUST_CHECK;
int store_purge(struct pg_session *session, int most, struct pg_error *error) MUST_CHECK;

/* What the database has of a Function: source is "queue", "table" or "schedule"; queue may be "". */
typedef void store_trigger_fn(void *arg, const char *trigger, const char *source, const char *queue);
int store_triggers_of(struct pg_session *session, const char *namespace, const char *function,
                      store_trigger_fn *each, void *arg, struct pg_error *error) MUST_CHECK;

/* ---- tables: on a session of their owner ---- */

int store_table_install(struct pg_session *session, const struct store_trigger *who,
                        const struct function_trigger *wanted, bool *ret_changed,
                        struct pg_error *error) MUST_CHECK;
int store_table_unregister(struct pg_session *session, const struct store_trigger *who,
                           struct pg_error *error) MUST_CHECK;
/* *ret_gone: nothing is left. */
int store_table_drop(struct pg_session *session, const struct store_trigger *who, bool *ret_gone,
                     struct pg_error *error) MUST_CHECK;

/* ---- schedules ---- */

/* Times are in microseconds since 1970, by the database's clock. */
int store_schedule_look(struct pg_session *session, const struct store_trigger *who, const char *expression,
                        int64_t *ret_last_tick_us, int64_t *ret_now_us, struct pg_error *error) MUST_CHECK;
struct store_ticks {
    const int64_t *due_s;
    size_t due_count;
    int64_t last_tick_s;
    int64_t skipped;
};
/* *ret_ours: false, somebody else has made them. */
int store_schedule_tick(struct pg_session *session, const struct store_trigger *who, const char *expression,
                        const struct store_ticks *ticks, bool *ret_ours, struct pg_error *error) MUST_CHECK;
/* *ret_gone as of store_release(). */
int store_schedule_remove(struct pg_session *session, const struct store_trigger *who, bool *ret_gone,
                          struct pg_error *error) MUST_CHECK;

#endif
