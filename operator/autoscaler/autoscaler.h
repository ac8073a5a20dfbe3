/* autoscaler.h - how many replicas a Function should have. Pure: history, settings and the moment in, a number out.
 *
 * Load is requests in flight plus requests waiting. The mean over the window, and over a tenth of it when load rises, is divided
 * by what a replica is meant to carry; requests that wait at this moment count at once. Fewer replicas only when fewer would have
 * been enough for the whole scale-down delay; none only when every gateway says that the Function was quiet. Missing data changes nothing:
 * what some gateways say may raise the number, never lower it.
 *
 * Threads: none of its own; one owner per history.
 */
#ifndef CICADA_AUTOSCALER_AUTOSCALER_H
#define CICADA_AUTOSCALER_AUTOSCALER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct autoscaler_settings {
    int min_replicas, max_replicas;
    int awake_min;          /* never fewer while awake: 1, or the pods that a proof needs */
    int concurrency;        /* of one replica */
    int target_utilization; /* percent of it */
    int64_t idle_ms, window_ms, scale_down_delay_ms;
};

/* What the gateways say at one moment. */
struct autoscaler_load {
    int64_t at_ms;              /* monotonic */
    double mean;                /* requests in flight and waiting, since the reading before */
    int64_t in_flight, waiting; /* at this moment */
    int64_t quiet_ms;   /* since the last request began or ended, as the gateway that saw the latest says */
    bool any, complete; /* some gateway, every gateway was read */
};

struct autoscaler_sample {
    int64_t at_ms;
    float mean;
    int wanted; /* replicas that this moment asked for, before the delay */
};

/* Zero it to begin. */
struct autoscaler_history {
    struct autoscaler_sample *samples; /* ring */
    size_t count, start, alloc;
    int replicas;              /* as seen last */
    int64_t replicas_since_ms; /* when that number was seen first; 0: never */
};

/* What a decision is about, beside the load. */
struct autoscaler_state {
    int replicas;   /* of the Deployment's spec */
    bool may_sleep; /* its newest template is proven, or failed and nothing serves */
};

void autoscaler_history_release(struct autoscaler_history *history);
/* Notes the number of replicas and, if any gateway was read, the load; drops what is too old to matter. */
void autoscaler_observe(struct autoscaler_history *history, const struct autoscaler_settings *settings,
                        const struct autoscaler_state *state, const struct autoscaler_load *load);
/* The number was written: should it be another one by the next look, that is a change. */
void autoscaler_wrote(struct autoscaler_history *history, int replicas, int64_t now_ms);
/* The replicas there should be; state->replicas: leave it. After autoscaler_observe() of the same moment. */
int autoscaler_decide(const struct autoscaler_history *history, const struct autoscaler_settings *settings,
                      const struct autoscaler_state *state, const struct autoscaler_load *load);

#endif
