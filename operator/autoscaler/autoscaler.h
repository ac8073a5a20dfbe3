/* autoscaler.h - how many replicas a Function should have. Pure: history, settings and the moment in, a decision out.
 *
 * The arithmetic is that of Knative's autoscaler: load is requests in flight and waiting, averaged over a stable window and, for panic,
 * over a tenth of it; README.md has the formulas, and where they differ and why. Missing data changes nothing: what some gateways say
 * may raise the number, never lower it.
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
    int awake_min;           /* never fewer while awake: 1, or the pods that a proof needs */
    int activation_replicas; /* at least so many for the first window after load woke it */
    int concurrency;         /* of one replica */
    int target_utilization;  /* percent of it */
    int64_t idle_ms, window_ms, scale_down_delay_ms;
};

/* What waits in the Function's database. */
struct autoscaler_events {
    bool any;    /* it has triggers */
    bool known;  /* the database was read */
    bool busy;   /* something is due or at work */
    bool behind; /* what is due has been so for more than a moment: those that are there do not keep up */
    int wanted;  /* replicas for what is due */
    int held;    /* replicas for what is due and what is at work */
};

/* What the gateways say at one moment, and the database. */
struct autoscaler_load {
    int64_t at_ms;              /* monotonic */
    double mean;                /* requests in flight and waiting, since the reading before */
    int64_t in_flight, waiting; /* at this moment */
    int64_t quiet_ms;   /* since the last request began or ended, as the gateway that saw the latest says */
    bool any, complete; /* some gateway, every gateway was read */
    struct autoscaler_events events;
};

/* What a decision is about, beside the load. */
struct autoscaler_state {
    int replicas; /* of the Deployment's spec */
    int ready;    /* able to serve */
    int64_t
        generation; /* moves with each change of the Deployment's spec; constant where the number tells all */
    bool may_sleep; /* its newest template is proven, or failed and nothing serves */
};

/* What made the number what it is: the rule that had the last word. */
enum autoscaler_reason {
    AUTOSCALER_LOAD,       /* the mean over the stable window, or one, which an awake Function has */
    AUTOSCALER_PANIC,      /* the most that was wanted since panic began */
    AUTOSCALER_ACTIVATION, /* just woken */
    AUTOSCALER_FOUND,      /* the scale that it was met with, for the first window */
    AUTOSCALER_RATE,       /* not less than half of what is there at once */
    AUTOSCALER_DELAY,      /* more was wanted within the scale-down delay */
    AUTOSCALER_MIN,
    AUTOSCALER_MAX,
    AUTOSCALER_PROOF,      /* a new generation is being proven */
    AUTOSCALER_INCOMPLETE, /* some gateway can't be read: not fewer */
    AUTOSCALER_NO_DATA,    /* none can */
    AUTOSCALER_IDLE,       /* quiet for long enough: none */
    AUTOSCALER_ASLEEP,     /* waking is the gateways' step */
    AUTOSCALER_EVENTS,     /* what is due or at work, or was within the window */
    AUTOSCALER_UNSEEN,     /* its database can't be read: not fewer, for that time and a window */
};

struct autoscaler_decision {
    int replicas; /* that there should be */
    enum autoscaler_reason reason;
    double stable, burst;   /* load: means over the stable and the panic window */
    double target;          /* of one replica */
    int64_t panic_since_ms; /* 0: no panic */
};

struct autoscaler_sample {
    int64_t at_ms;
    double mean;     /* load over the span_ms before at_ms */
    int32_t span_ms; /* what it counts for */
    int wanted;      /* replicas that this moment asked for, before delay and limits */
    int for_events;  /* the same for events */
};

/* Zero it to begin. */
struct autoscaler_history {
    struct autoscaler_sample *samples; /* ring */
    size_t count, start, alloc;
    int replicas;       /* as seen last */
    int64_t generation; /* so too */
    int64_t changed_ms; /* when these were seen first; 0: never */
    bool
        slept; /* no replicas when looked at before; set it when a Function first seen awake is known to be just woken */
    int64_t woken_ms;              /* when its first load after a sleep was seen; 0: it did not sleep */
    int64_t panic_ms, over_ms;     /* panic since, and last time above the threshold; 0: no panic */
    int high_water;                /* the most that was wanted in this panic */
    bool found;                    /* it is none: nothing was above, the scale was met so */
    double stable, burst;          /* means as of the last sample */
    double complete_mean;          /* load of the last reading of all gateways */
    int64_t all_ready_ms;          /* since when all replicas serve; 0: they do not */
    int64_t events_ms;             /* when events were last seen to be due or at work; 0: never */
    enum autoscaler_reason reason; /* of the last sample's number */
};

void autoscaler_history_release(struct autoscaler_history *history);
/* Notes the state and, if any gateway was read, the load; drops what is too old to matter. */
void autoscaler_observe(struct autoscaler_history *history, const struct autoscaler_settings *settings,
                        const struct autoscaler_state *state, const struct autoscaler_load *load);
/* The number was written: should it be another one by the next look, that is a change. */
void autoscaler_wrote(struct autoscaler_history *history, int replicas, int64_t now_ms);
/* After autoscaler_observe() of the same moment. state->replicas: leave it. */
struct autoscaler_decision autoscaler_decide(const struct autoscaler_history *history,
                                             const struct autoscaler_settings *settings,
                                             const struct autoscaler_state *state,
                                             const struct autoscaler_load *load);

/* The window over which a sudden rise of load is seen. */
int64_t autoscaler_panic_window_ms(const struct autoscaler_settings *settings);

/* Why, in a few words without figures, so that the same reason is the same text. */
const char *autoscaler_reason_text(enum autoscaler_reason reason);
/* The decision with its reason and, where load is what it is about, the figures, for people to read. The caller frees. */
char *autoscaler_decision_text(const struct autoscaler_decision *decision,
                               const struct autoscaler_settings *settings);

#endif
