#include "operator/autoscaler/autoscaler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"

#define PANIC_WINDOW_DIVISOR 10
#define PANIC_WINDOW_MIN_MS  6000
#define PANIC_THRESHOLD      2.0 /* times what is ready */
#define UP_RATE_MAX          1000.0
#define DOWN_RATE_MAX        2
#define TARGET_MIN           0.01
#define EVENTS_TIME_MS       2000 /* that replicas have, from when they serve, to show that they keep up */
#define SPAN_FIRST_MS        1000 /* of a sample without one before it */
#define SPAN_MAX_MS          PANIC_WINDOW_MIN_MS
#define SAMPLES_START        64
#define SAMPLES_MAX          8192 /* more than the longest delay at one a second */

static int max_int(int a, int b)
{
    return a > b ? a : b;
}

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

static int64_t max_int64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t min_int64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int clamp(double value, int min, int max)
{
    return value < min ? min : value > max ? max : (int)value;
}

int64_t autoscaler_panic_window_ms(const struct autoscaler_settings *settings)
{
    return max_int64(settings->window_ms / PANIC_WINDOW_DIVISOR, PANIC_WINDOW_MIN_MS);
}

/* ---- the ring of samples ---- */

static struct autoscaler_sample *sample_at(const struct autoscaler_history *history, size_t index)
{
    return &history->samples[(history->start + index) % history->alloc];
}

static struct autoscaler_sample *last_sample(const struct autoscaler_history *history)
{
    return sample_at(history, history->count - 1);
}

static void forget_samples(struct autoscaler_history *history)
{
    free(history->samples);
    history->samples = NULL;
    history->count = history->start = history->alloc = 0;
}

void autoscaler_history_release(struct autoscaler_history *history)
{
    free(history->samples);
    memset(history, 0, sizeof *history);
}

static void drop_old(struct autoscaler_history *history, int64_t before_ms)
{
    while (history->count > 0 &&
           (sample_at(history, 0)->at_ms < before_ms || history->count >= SAMPLES_MAX)) {
        history->start = (history->start + 1) % history->alloc;
        history->count--;
    }
}

static void append(struct autoscaler_history *history, int64_t at_ms, double mean)
{
    int64_t span_ms = history->count ? at_ms - last_sample(history)->at_ms : SPAN_FIRST_MS;
    if (history->count == history->alloc) {
        size_t alloc = history->alloc ? history->alloc * 2 : SAMPLES_START;
        struct autoscaler_sample *samples = xcalloc(alloc, sizeof *samples);
        for (size_t i = 0; i < history->count; i++) {
            samples[i] = *sample_at(history, i);
        }
        free(history->samples);
        history->samples = samples;
        history->start = 0;
        history->alloc = alloc;
    }
    history->count++;
    *last_sample(history) = (struct autoscaler_sample){
        .at_ms = at_ms, .mean = mean, .span_ms = (int32_t)max_int64(1, min_int64(span_ms, SPAN_MAX_MS))};
}

/* Over that time, or since the first sample: what was before it does not dilute. There is a sample. */
static double mean_over(const struct autoscaler_history *history, int64_t window_ms)
{
    int64_t since_ms = last_sample(history)->at_ms - window_ms;
    double sum = 0;
    double covered_ms = 0;
    for (size_t i = history->count; i > 0 && sample_at(history, i - 1)->at_ms > since_ms; i--) {
        const struct autoscaler_sample *sample = sample_at(history, i - 1);
        double span_ms = (double)min_int64(sample->span_ms, sample->at_ms - since_ms);
        sum += sample->mean * span_ms;
        covered_ms += span_ms;
    }
    return sum / covered_ms;
}

static int most_wanted_since(const struct autoscaler_history *history, int64_t since_ms)
{
    int most = 0;
    for (size_t i = history->count; i > 0 && sample_at(history, i - 1)->at_ms >= since_ms; i--) {
        most = max_int(most, sample_at(history, i - 1)->wanted);
    }
    return most;
}

static int most_for_events_since(const struct autoscaler_history *history, int64_t since_ms)
{
    int most = 0;
    for (size_t i = history->count; i > 0 && sample_at(history, i - 1)->at_ms >= since_ms; i--) {
        most = max_int(most, sample_at(history, i - 1)->for_events);
    }
    return most;
}

/* ---- what a moment asks for ---- */

static double target_of(const struct autoscaler_settings *settings)
{
    return fmax(settings->concurrency * (settings->target_utilization / 100.0), TARGET_MIN);
}

/* More than there is only where that was given its time and does not keep up: what one replica eats at once starts no pods, and pods
 * that start already are waited for. What is at work keeps those that are there. */
static int replicas_for_events(const struct autoscaler_history *history, const struct autoscaler_state *state,
                               const struct autoscaler_load *load)
{
    const struct autoscaler_events *events = &load->events;
    if (!events->any) {
        return 0;
    }
    if (!events->known) {
        return state->replicas;
    }
    bool had_time = history->all_ready_ms != 0 && load->at_ms - history->all_ready_ms >= EVENTS_TIME_MS;
    int held = min_int(events->held, state->replicas);
    int more = events->behind && had_time ? events->wanted : 0;
    return max_int(events->busy ? 1 : 0, max_int(held, more));
}

/* Requests of this moment, if some wait. While pods serve, one moment is luck: what the last reading averaged must bear it out. */
static double pressing_load(const struct autoscaler_state *state, const struct autoscaler_load *load,
                            double mean)
{
    double moment = (double)(load->in_flight + load->waiting);
    return load->waiting == 0 ? 0 : state->ready == 0 ? moment : fmin(moment, mean);
}

/* At twice what is ready and meant to be used, or when more is there than the ready replicas take at once, so that requests wait. */
static bool is_over(const struct autoscaler_history *history, const struct autoscaler_settings *settings,
                    const struct autoscaler_state *state, double pressing)
{
    double ready = max_int(1, state->ready), slots = ready * settings->concurrency;
    return history->burst >= PANIC_THRESHOLD * ready * target_of(settings) || history->burst > slots ||
           pressing >= PANIC_THRESHOLD * slots;
}

static void update_panic(struct autoscaler_history *history, const struct autoscaler_settings *settings,
                         const struct autoscaler_state *state, double pressing)
{
    int64_t now_ms = last_sample(history)->at_ms;
    if (is_over(history, settings, state, pressing)) {
        if (history->panic_ms == 0 || history->found) {
            history->panic_ms = now_ms;
            history->high_water = state->replicas;
            history->found = false;
        }
        history->over_ms = now_ms;
    } else if (history->panic_ms && now_ms - history->over_ms >= settings->window_ms) {
        history->panic_ms = 0;
    }
}

static int limit_rate_up(const struct autoscaler_state *state, double wanted)
{
    return clamp(wanted, 0, (int)(UP_RATE_MAX * max_int(1, state->ready)));
}

/* Not less than half of what is there. Replicas that are ready but no longer asked for are not there. */
static int limit_rate_down(const struct autoscaler_state *state, int wanted)
{
    return max_int(wanted, min_int(state->ready, state->replicas) / DOWN_RATE_MAX);
}

static void judge(struct autoscaler_history *history, const struct autoscaler_settings *settings,
                  const struct autoscaler_state *state, const struct autoscaler_load *load)
{
    struct autoscaler_sample *sample = last_sample(history);
    double target = target_of(settings), pressing = pressing_load(state, load, sample->mean);
    history->stable = mean_over(history, settings->window_ms);
    history->burst = mean_over(history, autoscaler_panic_window_ms(settings));
    update_panic(history, settings, state, pressing);

    double by_load = ceil(history->stable / target);
    int wanted = limit_rate_up(state, by_load);
    history->reason = AUTOSCALER_LOAD;
    bool just_woken = history->woken_ms && sample->at_ms - history->woken_ms < settings->window_ms;
    if (just_woken && by_load > 0 && wanted < settings->activation_replicas) {
        wanted = settings->activation_replicas;
        history->reason = AUTOSCALER_ACTIVATION;
    }
    if (history->panic_ms) {
        /* Each that waits gets a slot; the headroom comes with the mean. */
        double burst = fmax(ceil(history->burst / target), ceil(pressing / settings->concurrency));
        history->high_water = max_int(history->high_water, max_int(wanted, limit_rate_up(state, burst)));
        wanted = history->high_water;
        history->reason = history->found ? AUTOSCALER_FOUND : AUTOSCALER_PANIC;
    }
    sample->wanted = wanted;
    sample->for_events = replicas_for_events(history, state, load);
}

/* ---- in ---- */

/* The first load of a Function that slept, or of one that is met awake: the scale that it has is the start. */
static void begin(struct autoscaler_history *history, const struct autoscaler_settings *settings,
                  const struct autoscaler_state *state, int64_t now_ms)
{
    history->woken_ms = history->slept && state->replicas == 1 ? now_ms : 0;
    history->slept = false;
    history->complete_mean = 0;
    history->found = state->replicas > max_int(1, settings->min_replicas);
    history->panic_ms = history->found ? now_ms : 0;
    history->over_ms = now_ms;
    history->high_water = state->replicas;
}

void autoscaler_observe(struct autoscaler_history *history, const struct autoscaler_settings *settings,
                        const struct autoscaler_state *state, const struct autoscaler_load *load)
{
    if (history->changed_ms == 0 || history->replicas != state->replicas ||
        history->generation != state->generation) {
        history->replicas = state->replicas;
        history->generation = state->generation;
        history->changed_ms = load->at_ms;
    }
    if (state->replicas == 0) {
        /* What was before the sleep says nothing about what comes after it. */
        forget_samples(history);
        history->slept = true;
        return;
    }
    if (state->ready < max_int(1, state->replicas)) {
        history->all_ready_ms = 0;
    } else if (history->all_ready_ms == 0) {
        history->all_ready_ms = load->at_ms;
    }
    if (load->events.any && (load->events.busy || !load->events.known)) {
        history->events_ms = load->at_ms;
    }
    drop_old(history, load->at_ms - max_int64(settings->window_ms, settings->scale_down_delay_ms));
    if (!load->any) {
        return;
    }
    if (history->count == 0) {
        begin(history, settings, state, load->at_ms);
    }
    if (load->complete) {
        history->complete_mean = load->mean;
    }
    /* What can't be read is taken for what it was: when it is back, too little would have been averaged. */
    append(history, load->at_ms, fmax(load->mean, history->complete_mean));
    judge(history, settings, state, load);
}

void autoscaler_wrote(struct autoscaler_history *history, int replicas, int64_t now_ms)
{
    history->replicas = replicas;
    history->changed_ms = now_ms;
}

/* ---- out ---- */

/* At least one replica, within the limits. */
static int clamp_awake(const struct autoscaler_settings *settings, int wanted)
{
    int min = max_int(settings->min_replicas, settings->awake_min);
    return clamp(wanted, min_int(min, settings->max_replicas), settings->max_replicas);
}

/* Quiet for long enough by the figures of all gateways, and read after the last change of the Deployment, which counts as activity: a
 * pod that just proved its generation, or that somebody asked for, is not taken away at once. */
static bool may_sleep_now(const struct autoscaler_history *history,
                          const struct autoscaler_settings *settings, const struct autoscaler_state *state,
                          const struct autoscaler_load *load)
{
    int64_t quiet_needed_ms = max_int64(settings->idle_ms, settings->scale_down_delay_ms);
    bool events =
        load->events.any && (!load->events.known || load->events.busy ||
                             (history->events_ms != 0 && load->at_ms - history->events_ms < quiet_needed_ms));
    return settings->min_replicas == 0 && state->may_sleep && !events && load->complete &&
           load->in_flight == 0 && load->waiting == 0 && load->quiet_ms >= quiet_needed_ms &&
           load->at_ms - history->changed_ms >= settings->idle_ms;
}

static void decide_by_load(const struct autoscaler_history *history,
                           const struct autoscaler_settings *settings, const struct autoscaler_state *state,
                           const struct autoscaler_load *load, struct autoscaler_decision *decision)
{
    int most = most_wanted_since(history, load->at_ms - settings->scale_down_delay_ms);
    int for_events = most_for_events_since(
        history, load->at_ms - max_int64(settings->window_ms, settings->scale_down_delay_ms));
    int wanted = limit_rate_down(state, max_int(most, for_events));
    int bounded = clamp_awake(settings, wanted), present = clamp_awake(settings, state->replicas);
    decision->replicas = bounded;
    if (!load->complete && bounded < present) {
        decision->replicas = present;
        decision->reason = AUTOSCALER_INCOMPLETE;
    } else if (bounded < wanted) {
        decision->reason = AUTOSCALER_MAX;
    } else if (bounded > wanted && settings->awake_min > 1 && bounded == settings->awake_min) {
        decision->reason = AUTOSCALER_PROOF;
    } else if (bounded > wanted && settings->min_replicas > 0) {
        decision->reason = AUTOSCALER_MIN;
    } else if (wanted > max_int(most, for_events)) {
        decision->reason = AUTOSCALER_RATE;
    } else if (for_events > most) {
        decision->reason = load->events.any && !load->events.known ? AUTOSCALER_UNSEEN : AUTOSCALER_EVENTS;
    } else if (most > last_sample(history)->wanted) {
        decision->reason = AUTOSCALER_DELAY;
    } else {
        decision->reason = history->reason;
    }
}

struct autoscaler_decision autoscaler_decide(const struct autoscaler_history *history,
                                             const struct autoscaler_settings *settings,
                                             const struct autoscaler_state *state,
                                             const struct autoscaler_load *load)
{
    struct autoscaler_decision decision = {.target = target_of(settings)};
    if (state->replicas == 0) {
        /* From zero to one is the gateways' step. */
        decision.replicas = settings->min_replicas;
        decision.reason = decision.replicas > 0 ? AUTOSCALER_MIN : AUTOSCALER_ASLEEP;
        if (decision.replicas == 0 && load->events.any && load->events.known && load->events.wanted > 0) {
            decision.replicas = clamp_awake(settings, 1);
            decision.reason = AUTOSCALER_EVENTS;
        }
        return decision;
    }
    decision.stable = history->stable;
    decision.burst = history->burst;
    decision.panic_since_ms = history->found ? 0 : history->panic_ms;
    if (may_sleep_now(history, settings, state, load)) {
        decision.reason = AUTOSCALER_IDLE;
    } else if (history->count == 0 || !load->any) {
        int for_events = replicas_for_events(history, state, load);
        decision.replicas = clamp_awake(settings, max_int(state->replicas, for_events));
        decision.reason = for_events > state->replicas ? AUTOSCALER_EVENTS : AUTOSCALER_NO_DATA;
    } else {
        decide_by_load(history, settings, state, load, &decision);
    }
    return decision;
}
