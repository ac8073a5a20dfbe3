#include "operator/autoscaler/autoscaler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"

#define SHORT_WINDOW_DIVISOR 10
#define SHORT_WINDOW_MIN_MS  6000
#define TARGET_MIN           0.01
#define SAMPLES_START        64
#define SAMPLES_MAX          8192 /* more than the longest delay at one a second */

static const struct autoscaler_sample *sample_at(const struct autoscaler_history *history, size_t index)
{
    return &history->samples[(history->start + index) % history->alloc];
}

void autoscaler_history_release(struct autoscaler_history *history)
{
    free(history->samples);
    memset(history, 0, sizeof *history);
}

static int64_t max_int64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static void drop_old(struct autoscaler_history *history, int64_t before_ms)
{
    while (history->count > 0 &&
           (sample_at(history, 0)->at_ms < before_ms || history->count >= SAMPLES_MAX)) {
        history->start = (history->start + 1) % history->alloc;
        history->count--;
    }
}

static void append(struct autoscaler_history *history, struct autoscaler_sample sample)
{
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
    history->samples[(history->start + history->count++) % history->alloc] = sample;
}

static double mean_since(const struct autoscaler_history *history, int64_t since_ms)
{
    double sum = 0;
    size_t count = 0;
    for (size_t i = history->count; i > 0 && sample_at(history, i - 1)->at_ms > since_ms; i--) {
        sum += sample_at(history, i - 1)->mean;
        count++;
    }
    return count ? sum / (double)count : 0;
}

static int clamp(double value, int min, int max)
{
    return value < min ? min : value > max ? max : (int)value;
}

/* At least one replica, within the limits. */
static int clamp_awake(const struct autoscaler_settings *settings, double wanted)
{
    int min = settings->min_replicas > settings->awake_min ? settings->min_replicas : settings->awake_min;
    return clamp(wanted, min < settings->max_replicas ? min : settings->max_replicas, settings->max_replicas);
}

static int wanted_now(const struct autoscaler_history *history, const struct autoscaler_settings *settings,
                      const struct autoscaler_load *load)
{
    int64_t short_ms = max_int64(settings->window_ms / SHORT_WINDOW_DIVISOR, SHORT_WINDOW_MIN_MS);
    double demand = fmax(mean_since(history, load->at_ms - settings->window_ms),
                         mean_since(history, load->at_ms - short_ms));
    if (load->waiting > 0) {
        demand = fmax(demand, (double)(load->in_flight + load->waiting));
    }
    double target = fmax(settings->concurrency * (settings->target_utilization / 100.0), TARGET_MIN);
    return clamp_awake(settings, ceil(demand / target));
}

void autoscaler_observe(struct autoscaler_history *history, const struct autoscaler_settings *settings,
                        const struct autoscaler_state *state, const struct autoscaler_load *load)
{
    if (history->replicas_since_ms == 0 || history->replicas != state->replicas) {
        history->replicas = state->replicas;
        history->replicas_since_ms = load->at_ms;
    }
    if (state->replicas == 0) {
        /* What was before the sleep says nothing about what comes after it. */
        free(history->samples);
        history->samples = NULL;
        history->count = history->start = history->alloc = 0;
        return;
    }
    drop_old(history, load->at_ms - max_int64(settings->window_ms, settings->scale_down_delay_ms));
    if (load->any) {
        append(history, (struct autoscaler_sample){.at_ms = load->at_ms, .mean = (float)load->mean});
        size_t last = (history->start + history->count - 1) % history->alloc;
        history->samples[last].wanted = wanted_now(history, settings, load);
    }
}

void autoscaler_wrote(struct autoscaler_history *history, int replicas, int64_t now_ms)
{
    history->replicas = replicas;
    history->replicas_since_ms = now_ms;
}

static int most_wanted_since(const struct autoscaler_history *history, int64_t since_ms)
{
    int most = 0;
    for (size_t i = history->count; i > 0 && sample_at(history, i - 1)->at_ms >= since_ms; i--) {
        int wanted = sample_at(history, i - 1)->wanted;
        most = wanted > most ? wanted : most;
    }
    return most;
}

/* Quiet for long enough by the figures of all gateways, and read after the last change of replicas, which counts as activity: a
 * pod that just proved its generation, or that somebody asked for, is not taken away at once. */
static bool may_sleep_now(const struct autoscaler_history *history,
                          const struct autoscaler_settings *settings, const struct autoscaler_state *state,
                          const struct autoscaler_load *load)
{
    int64_t quiet_needed_ms = max_int64(settings->idle_ms, settings->scale_down_delay_ms);
    return settings->min_replicas == 0 && state->may_sleep && load->complete && load->in_flight == 0 &&
           load->waiting == 0 && load->quiet_ms >= quiet_needed_ms &&
           load->at_ms - history->replicas_since_ms >= settings->idle_ms;
}

int autoscaler_decide(const struct autoscaler_history *history, const struct autoscaler_settings *settings,
                      const struct autoscaler_state *state, const struct autoscaler_load *load)
{
    if (state->replicas == 0) {
        /* From zero to one is the gateway's step. */
        return settings->min_replicas;
    }
    if (may_sleep_now(history, settings, state, load)) {
        return 0;
    }
    int bounded = clamp_awake(settings, state->replicas);
    if (history->count == 0 || !load->any) {
        return bounded;
    }
    int wanted = most_wanted_since(history, load->at_ms - settings->scale_down_delay_ms);
    return load->complete || wanted > bounded ? wanted : bounded;
}
