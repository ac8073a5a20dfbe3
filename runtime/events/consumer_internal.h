/* consumer_internal.h - what the consumer's two files share: its threads (consumer.c), and what its own thread does (consumer_turn.c). */
#ifndef CICADA_EVENTS_CONSUMER_INTERNAL_H
#define CICADA_EVENTS_CONSUMER_INTERNAL_H

#include <pthread.h>

#include "runtime/base/stop.h"
#include "runtime/events/consumer.h"
#include "runtime/events/hand.h"
#include "runtime/postgres/pg_session.h"

struct trigger {
    /* The consumer's thread's own. */
    int queue_id;        /* 0: not registered by this control connection */
    int64_t register_ms; /* not before */
    bool alone_waits;    /* an event of it waits for an empty hand */
    /* Guarded by the mutex. */
    bool conflict;
    struct consumer_counts counts;
};

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
    int64_t reconnect_ms;       /* the last pause before connecting; 0: none */
    int64_t extend_ms, maintain_ms;
    int64_t asleep_ms; /* when it has published that it sleeps; 0: it works */
    int looks;         /* claims in a row that found nothing */
    size_t first;      /* the trigger that claims first */

    pthread_mutex_t mutex; /* guards the rest; no I/O is done while it is held */
    pthread_cond_t line;   /* there may be something in line, or the end has come */
    pthread_cond_t ended;
    struct hand hand; /* only the consumer's thread adds and removes */
    struct trigger triggers[CONSUMER_TRIGGERS_MAX];
    int64_t run_us; /* a moving average of how long events are at work */
    bool draining;
    int threads_left;
    char explanation[256];
};

/* Until the consumer is stopped. */
void consumer_turns(struct consumer *consumer);

#endif
