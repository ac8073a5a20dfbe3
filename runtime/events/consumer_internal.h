/* consumer_internal.h - what the consumer's files share: its threads (consumer.c), and what its own thread does (consumer_session.c, consumer_turn.c). */
#ifndef CICADA_EVENTS_CONSUMER_INTERNAL_H
#define CICADA_EVENTS_CONSUMER_INTERNAL_H

#include <pthread.h>

#include "runtime/base/stop.h"
#include "runtime/events/consumer.h"
#include "runtime/events/hand.h"
#include "runtime/postgres/pg_session.h"

/* The consumer's thread's own. */
struct trigger {
    int queue_id;        /* 0: not registered by this control connection */
    int64_t register_ms; /* not before */
    int64_t claim_ms;    /* not before */
    bool alone_waits;    /* an event of it waits for an empty hand */
};

/* While events are at work for no longer than this, as many more are claimed ahead: then a claim serves several. Others would wait here, while
 * another replica is idle. */
#define CONSUMER_AHEAD_RUN_US 20000
/* While payloads in hand take more, nothing is claimed; one claim brings at most CONSUMER_CLAIM_MAX times 256 KiB beyond that. */
#define CONSUMER_HAND_BYTES ((size_t)8 << 20)
#define CONSUMER_CLAIM_MAX  100 /* events */

#define CONSUMER_MAINTAIN_MS 1000
#define CONSUMER_PURGE_MS    60000

struct worker {
    struct consumer *consumer;
    int number;
    pthread_t thread;
};

struct consumer {
    struct consumer_settings settings;
    struct stop stop;
    int wake_fd; /* readable: a worker has finished, or the drain has begun */
    pthread_t thread;
    bool has_thread;
    struct worker workers[CONSUMER_CONCURRENCY_MAX];
    int worker_count; /* that have a thread */

    /* The consumer's thread's own. */
    struct pg_session *session; /* NULL: not connected */
    bool must_pause;            /* before it connects */
    int64_t reconnect_ms;       /* the last such pause; 0: none since a claim was answered */
    int64_t extend_ms, maintain_ms, purge_ms;
    int64_t asleep_ms; /* when it has published that it sleeps; 0: it works */
    int looks;         /* claims in a row that found nothing */
    bool heard;        /* a notification of one of our queues */
    size_t first;      /* the trigger that claims first */

    pthread_mutex_t mutex; /* guards the rest; no I/O is done while it is held */
    pthread_cond_t line;   /* there may be something in line, or the end has come */
    pthread_cond_t ended;
    struct hand hand; /* only the consumer's thread adds and removes */
    struct trigger triggers[CONSUMER_TRIGGERS_MAX];
    struct consumer_counts counts;
    int64_t run_us; /* a moving average of how long an event is at work */
    bool draining;
    int threads_left;
    char problem[CONSUMER_PROBLEM_SIZE];
};

/* How many events of a trigger a worker takes at once, at most: a batch, or as many as one transaction can have before what it has
 * locked is wanted. With the mutex held. */
int consumer_load(const struct consumer *consumer, int trigger);

/* ---- consumer_session.c: on the consumer's thread ---- */

/* Why queues are not consumed; "": they are. */
void consumer_explain(struct consumer *consumer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* False: there is no connection. */
bool consumer_connect(struct consumer *consumer);
void consumer_pause_before_connect(struct consumer *consumer);
/* What was not begun is forgotten: its leases belong to the connection. */
void consumer_disconnect(struct consumer *consumer);
/* After an error; disconnects if the connection is lost. */
void consumer_report_failure(struct consumer *consumer, const char *what, const struct pg_error *error);
/* Those that are due; all is well once the last one is registered. */
void consumer_register_triggers(struct consumer *consumer);

/* ---- consumer_claim.c: on the consumer's thread ---- */

bool consumer_has_room(struct consumer *consumer);
/* Each trigger gets its share of the room, and what others leave. One of which an event waits to be alone comes first. Returns how many
 * came. */
int consumer_claim(struct consumer *consumer);

/* ---- consumer_turn.c: on the consumer's thread ---- */

/* One more. */
void consumer_count(struct consumer *consumer, int64_t *number);
/* To be run again, or a dead letter. */
void consumer_give_up(struct consumer *consumer, const struct event *event,
                      const struct event_decision *decision, const char *text);
void consumer_extend_if_due(struct consumer *consumer);

/* Until the consumer is stopped. */
void consumer_turns(struct consumer *consumer);

#endif
