/* support_simulator.h - a Function under load, its pods and its queue, around the real autoscaler; deterministic, no clock.
 *
 * Requests are a fluid: they come at the shape's rate and take SIMULATION_SERVICE_S of a slot. A pod serves SIMULATION_START_MS after it was asked for.
 * Threads: none of its own.
 */
#ifndef CICADA_TESTS_SUPPORT_SIMULATOR_H
#define CICADA_TESTS_SUPPORT_SIMULATOR_H

#include <stdbool.h>

#include "operator/autoscaler/autoscaler.h"

#define SIMULATION_SECONDS_MAX 600
#define SIMULATION_START_MS    2000
#define SIMULATION_SERVICE_S   0.5

/* One second of it. */
struct simulation_second {
    double load; /* requests in flight and waiting, on average */
    int desired, ready;
    bool panic, outage;
};

struct simulation {
    /* Given. */
    const char *name;
    struct autoscaler_settings settings;
    int seconds;
    double (*rate)(int second); /* requests a second */
    int outage_from, outage_to; /* seconds without figures of any gateway */
    /* Found. */
    struct simulation_second found[SIMULATION_SECONDS_MAX];
    double longest_wait_s; /* in line */
    int turns;             /* changes of direction of what is desired */
};

void simulation_run(struct simulation *simulation);
/* Load, desired and ready replicas over time. -1: can't be written. */
int simulation_plot(const struct simulation *simulation, const char *path);

#endif
