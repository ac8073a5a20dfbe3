/* support_film.h - the autoscaler's history of one Function, second by second. Threads: none of its own. */
#ifndef CICADA_TESTS_SUPPORT_FILM_H
#define CICADA_TESTS_SUPPORT_FILM_H

#include "operator/autoscaler/autoscaler.h"

/* concurrency 10 at 70 %: a replica carries 7 */
extern const struct autoscaler_settings usual;

/* A Function over time: each call is one second later. */
struct film {
    struct autoscaler_history history;
    struct autoscaler_decision decision; /* the last one */
    struct autoscaler_settings settings;
    struct autoscaler_state state;
    int64_t now_ms, last_request_ms;
};

struct film film_new(const struct autoscaler_settings *settings, int replicas);
void film_end(struct film *film);
/* The next second, with this load; returns what is decided, which is not done. */
int film_show(struct film *film, struct autoscaler_load load);
/* The next second, or seconds, with this load, seen by every gateway; what is decided is done. */
int film_second(struct film *film, double mean, int64_t waiting);
int film_seconds(struct film *film, int seconds, double mean);
void assert_decision(const struct film *film, int replicas, enum autoscaler_reason reason);

#endif
