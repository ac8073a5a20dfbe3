/* consumer.h - takes events from queues and has them worked on: claims, leases, retries, dead letters.
 *
 * One thread, the consumer's, owns a connection of its own (the control connection): it claims, extends leases, gives back, retries, buries and
 * listens. `concurrency` workers run events, one each at a time, or a batch, or a group; a run settles its events in its own transaction. What is claimed and not
 * begun waits in line. When the control connection is lost, so is what was not begun; what is at work goes on, and settles if it can,
 * but is neither retried nor buried by this process (e2e/models, queue_kept_leases).
 *
 *     claimed --> in line --> at work --> settled: forgotten
 *                    |           `------> else as outcome.h says, by the consumer's thread
 *                    `--drain: given back
 *
 * An event whose last run ended without a word is claimed only while nothing else is in hand, and nothing is claimed beside it.
 *
 * Threads: the functions below on any; `run` on a worker's.
 */
#ifndef CICADA_EVENTS_CONSUMER_H
#define CICADA_EVENTS_CONSUMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/events/event.h"
#include "runtime/events/outcome.h"
#include "runtime/postgres/postgres.h"

#define CONSUMER_TRIGGERS_MAX    16
#define CONSUMER_CONCURRENCY_MAX 250
#define CONSUMER_PROBLEM_SIZE    256
#define CONSUMER_RUN_MAX         1000  /* events of one run */
#define CONSUMER_GROUP_US        25000 /* what a group takes, about */

struct consumer;

struct consumer_trigger {
    const char *name;
    const char *queue; /* NULL: that of a table or schedule trigger, which the database names */
    bool ordered;      /* per key */
    int batch_size;    /* of up to so many, to CONSUMER_RUN_MAX, a run is made; 1: of one, or of a group */
    struct delivery delivery;
};

struct consumer_settings {
    struct pg_pool
        *pool; /* whose server and role the control connection uses; it is no connection of the pool */
    const char *namespace, *function;
    const struct consumer_trigger *triggers;
    size_t trigger_count; /* 1 to CONSUMER_TRIGGERS_MAX */
    int concurrency;
    int64_t lease_ms;
    bool lease_fixed; /* a lease is not extended while its event is at work, and none is claimed ahead */
    int group_most;   /* events that take no time are handed over in groups of up to so many; 1: one by one */
    size_t stack_bytes; /* of a worker */
    /* Runs events of one trigger on a worker (0 to concurrency - 1), each of which is settled in a transaction that has its effects, and
     * tells how that ended. */
    void (*run)(void *arg, int worker, struct event_job *const *jobs, size_t count);
    void *run_arg;
};

/* Since the start. */
struct consumer_counts {
    int64_t done;
    int64_t retried; /* to be run again */
    int64_t buried;  /* dead letters */
    int64_t lost;    /* leases */
};

struct consumer_figures {
    int in_line, at_work;
    char problem[CONSUMER_PROBLEM_SIZE]; /* why queues are not consumed, for people; "": they are */
};

/* Borrows the settings until consumer_free(). The pool must have been started. */
int consumer_start(const struct consumer_settings *settings, struct consumer **ret_consumer,
                   struct err *err) MUST_CHECK;
/* Claims no more and gives back what is in line. */
void consumer_drain(struct consumer *consumer);
/* True once nothing is in hand, after consumer_drain(). NULL: true. */
bool consumer_is_drained(struct consumer *consumer);
/* Ends all threads. False: one is still at work at the deadline, and consumer_free() must not be called. NULL is fine, also below. */
bool consumer_stop(struct consumer *consumer, int64_t deadline_ms) MUST_CHECK;
void consumer_free(struct consumer *consumer);

void consumer_figures(struct consumer *consumer, struct consumer_figures *ret_figures);
void consumer_counts(struct consumer *consumer, struct consumer_counts *ret_counts);

#endif
