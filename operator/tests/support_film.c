#include "operator/tests/support_film.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

const struct autoscaler_settings usual = {.max_replicas = 10,
                                          .awake_min = 1,
                                          .activation_replicas = 1,
                                          .concurrency = 10,
                                          .target_utilization = 70,
                                          .idle_ms = 60000,
                                          .window_ms = 60000};

struct film film_new(const struct autoscaler_settings *settings, int replicas)
{
    return (struct film){.settings = *settings,
                         .state = {.replicas = replicas, .ready = replicas, .may_sleep = true},
                         .now_ms = 1000000,
                         .last_request_ms = 1000000};
}

int film_show(struct film *film, struct autoscaler_load load)
{
    film->now_ms += 1000;
    load.at_ms = film->now_ms;
    autoscaler_observe(&film->history, &film->settings, &film->state, &load);
    film->decision = autoscaler_decide(&film->history, &film->settings, &film->state, &load);
    return film->decision.replicas;
}

int film_second(struct film *film, double mean, int64_t waiting)
{
    if (mean > 0 || waiting > 0) {
        film->last_request_ms = film->now_ms + 1000;
    }
    struct autoscaler_load load = {.mean = mean,
                                   .in_flight = (int64_t)mean - waiting > 0 ? (int64_t)mean - waiting : 0,
                                   .waiting = waiting,
                                   .quiet_ms = film->now_ms + 1000 - film->last_request_ms,
                                   .any = true,
                                   .complete = true};
    int replicas = film_show(film, load);
    if (replicas != film->state.replicas) {
        autoscaler_wrote(&film->history, replicas, film->now_ms);
        film->state.replicas = film->state.ready = replicas;
        film->state.generation++;
    }
    return replicas;
}

int film_seconds(struct film *film, int seconds, double mean)
{
    for (int i = 0; i < seconds; i++) {
        film_second(film, mean, 0);
    }
    return film->state.replicas;
}

void film_end(struct film *film)
{
    autoscaler_history_release(&film->history);
}

void assert_decision(const struct film *film, int replicas, enum autoscaler_reason reason)
{
    assert_int_equal(film->decision.replicas, replicas);
    assert_int_equal(film->decision.reason, reason);
}
