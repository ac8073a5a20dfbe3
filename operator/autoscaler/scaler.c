#include "operator/autoscaler/scaler.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"

/* What is remembered of a Function from pass to pass. */
struct memory {
    UT_hash_handle hh; /* key: id */
    struct autoscaler_history history;
    uint64_t pass; /* that saw it last */
    char *namespace, *name;
    int told_replicas; /* of the last change, which told explains; NULL: there was none. Both guarded by mu */
    char *told;
    int64_t told_generation; /* before that change */
    char id[];
};

struct scaler {
    struct scaler_platform platform;
    pthread_mutex_t mu; /* the owner takes it to change the table, others to look */
    struct memory *memories;
    uint64_t pass;
    struct metric *ups, *downs, *sleeps, *failures, *unread;
    /* By Function, while it is awake. */
    struct metric_family *replicas, *stable, *burst, *target, *panic;
};

static const char *const function_labels[] = {"namespace", "function", NULL};

static struct metric *scale_metric(struct metric_family *family, const char *direction)
{
    return metric_family_get(family, (const char *const[]){direction});
}

static void make_function_metrics(struct scaler *scaler, struct metrics *metrics)
{
    scaler->replicas = metrics_gauge(metrics, "cicada_autoscaler_desired_replicas",
                                     "Replicas that a Function should have.", function_labels);
    scaler->stable =
        metrics_gauge(metrics, "cicada_autoscaler_stable_load",
                      "Requests in flight and waiting, mean over the stable window.", function_labels);
    scaler->burst =
        metrics_gauge(metrics, "cicada_autoscaler_panic_load",
                      "Requests in flight and waiting, mean over the panic window.", function_labels);
    scaler->target = metrics_gauge(metrics, "cicada_autoscaler_target_load",
                                   "Requests at once that one replica is to have.", function_labels);
    scaler->panic = metrics_gauge(metrics, "cicada_autoscaler_panicking",
                                  "1 while a sudden rise of load decides.", function_labels);
}

struct scaler *scaler_new(const struct scaler_platform *platform, struct metrics *metrics)
{
    static const char *const direction_label[] = {"direction", NULL};
    struct scaler *scaler = xcalloc(1, sizeof *scaler);
    scaler->platform = *platform;
    pthread_mutex_init(&scaler->mu, NULL);
    struct metric_family *changes =
        metrics_counter(metrics, "cicada_autoscaler_changes_total", "Changes of replicas by the autoscaler.",
                        direction_label);
    scaler->ups = scale_metric(changes, "up");
    scaler->downs = scale_metric(changes, "down");
    scaler->sleeps = scale_metric(changes, "zero");
    scaler->failures = metric_family_get(metrics_counter(metrics, "cicada_autoscaler_failures_total",
                                                         "Changes that could not be written.", NULL),
                                         NULL);
    scaler->unread =
        metric_family_get(metrics_gauge(metrics, "cicada_autoscaler_unread_gateways",
                                        "Gateways whose figures could not be read in the last tick.", NULL),
                          NULL);
    make_function_metrics(scaler, metrics);
    return scaler;
}

static void forget(struct scaler *scaler, struct memory *memory)
{
    pthread_mutex_lock(&scaler->mu);
    /* What is freed is in the table no more. NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
    HASH_DEL(scaler->memories, memory);
    pthread_mutex_unlock(&scaler->mu);
    struct metric_family *const families[] = {scaler->replicas, scaler->stable, scaler->burst, scaler->target,
                                              scaler->panic};
    for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
        metric_family_remove(families[i], (const char *const[]){memory->namespace, memory->name}, 2);
    }
    autoscaler_history_release(&memory->history);
    free(memory->namespace);
    free(memory->name);
    free(memory->told);
    free(memory);
}

void scaler_free(struct scaler *scaler)
{
    if (!scaler) {
        return;
    }
    while (scaler->memories) {
        forget(scaler, scaler->memories);
    }
    pthread_mutex_destroy(&scaler->mu);
    free(scaler);
}

static struct memory *new_memory(struct scaler *scaler, const struct scaler_target *target)
{
    size_t size = strlen(target->id) + 1;
    struct memory *memory = xcalloc(1, sizeof *memory + size);
    memcpy(memory->id, target->id, size);
    memory->namespace = xstrdup(target->namespace);
    memory->name = xstrdup(target->name);
    /* In the first pass all are new; later, one that was not there before slept, or was just made. */
    memory->history.slept = scaler->pass > 1;
    return memory;
}

static struct memory *remember(struct scaler *scaler, const struct scaler_target *target)
{
    struct memory *memory;
    HASH_FIND_STR(scaler->memories, target->id, memory);
    if (!memory) {
        memory = new_memory(scaler, target);
        pthread_mutex_lock(&scaler->mu);
        HASH_ADD_STR(scaler->memories, id, memory);
        pthread_mutex_unlock(&scaler->mu);
    }
    return memory;
}

/* What is told from now on, and what was until now; text NULL: nothing. */
static void swap_told(struct scaler *scaler, struct memory *memory, int *replicas, char **text)
{
    int before = memory->told_replicas;
    char *before_text = memory->told;
    pthread_mutex_lock(&scaler->mu);
    memory->told_replicas = *replicas;
    memory->told = *text;
    pthread_mutex_unlock(&scaler->mu);
    *replicas = before;
    *text = before_text;
}

/* Somebody else has changed the number since. */
static void forget_told(struct scaler *scaler, struct memory *memory, const struct autoscaler_state *state)
{
    if (memory->told && state->replicas != memory->told_replicas &&
        state->generation != memory->told_generation) {
        int none = 0;
        char *text = NULL;
        swap_told(scaler, memory, &none, &text);
        free(text);
    }
}

char *scaler_told(struct scaler *scaler, const char *id, int replicas)
{
    struct memory *memory;
    pthread_mutex_lock(&scaler->mu);
    HASH_FIND_STR(scaler->memories, id, memory);
    char *text = memory && memory->told && memory->told_replicas == replicas ? xstrdup(memory->told) : NULL;
    pthread_mutex_unlock(&scaler->mu);
    return text;
}

/* Looked up each time: a Function made anew under the name of one that goes has the same metrics, which go with that. */
static void show(const struct scaler *scaler, const struct scaler_target *target,
                 const struct autoscaler_decision *decision)
{
    const char *const labels[] = {target->namespace, target->name};
    metric_set(metric_family_get(scaler->replicas, labels), decision->replicas);
    metric_set(metric_family_get(scaler->stable, labels), decision->stable);
    metric_set(metric_family_get(scaler->burst, labels), decision->burst);
    metric_set(metric_family_get(scaler->target, labels), decision->target);
    metric_set(metric_family_get(scaler->panic, labels), decision->panic_since_ms ? 1 : 0);
}

static bool write_decision(struct scaler *scaler, struct memory *memory, const struct scaler_target *target,
                           const struct autoscaler_decision *decision)
{
    const struct scaler_platform *platform = &scaler->platform;
    int before = target->state.replicas, replicas = decision->replicas;
    CLEANUP_FREE char *text = autoscaler_decision_text(decision, &target->settings);
    struct err err = ERR_INIT;
    int told_replicas = replicas;
    CLEANUP_FREE char *told = xstrdup(text);
    swap_told(scaler, memory, &told_replicas, &told);
    if (platform->write(platform->arg, target, replicas, &err) < 0) {
        swap_told(scaler, memory, &told_replicas, &told);
        bool moved_on = err.code == ERR_CONFLICT || err.code == ERR_NOT_FOUND;
        if (!moved_on && err.code != ERR_CANCELLED) {
            metric_add(scaler->failures, 1);
            log_warn("%s/%s: scaling to %d failed: %s", target->namespace, target->name, replicas, err.msg);
        }
        return false;
    }
    memory->told_generation = target->state.generation;
    metric_add(replicas == 0 ? scaler->sleeps : replicas > before ? scaler->ups : scaler->downs, 1);
    log_info("%s/%s: from %d to %s", target->namespace, target->name, before, text);
    if (platform->wrote) {
        platform->wrote(platform->arg, target, decision);
    }
    return true;
}

static void visit(void *visitor, const struct scaler_target *target)
{
    struct scaler *scaler = visitor;
    bool asleep = target->state.replicas == 0 && target->settings.min_replicas == 0;
    if (asleep && !target->has_triggers) {
        return; /* which most are: nothing to decide, and what was before is forgotten */
    }
    struct autoscaler_load load =
        scaler->platform.load(scaler->platform.arg, target->namespace, target->name);
    if (asleep && load.events.wanted == 0) {
        return;
    }
    struct memory *memory = remember(scaler, target);
    memory->pass = scaler->pass;
    forget_told(scaler, memory, &target->state);
    autoscaler_observe(&memory->history, &target->settings, &target->state, &load);
    struct autoscaler_decision decision =
        autoscaler_decide(&memory->history, &target->settings, &target->state, &load);
    show(scaler, target, &decision);
    if (decision.replicas != target->state.replicas && write_decision(scaler, memory, target, &decision)) {
        autoscaler_wrote(&memory->history, decision.replicas, load.at_ms);
    }
}

void scaler_look(struct scaler *scaler, const struct scaler_target *target)
{
    visit(scaler, target);
}

void scaler_pass(struct scaler *scaler)
{
    struct memory *memory, *next;
    scaler->pass++;
    metric_set(scaler->unread, (double)scaler->platform.read_gateways(scaler->platform.arg));
    scaler->platform.each(scaler->platform.arg, visit, scaler);
    HASH_ITER(hh, scaler->memories, memory, next)
    {
        if (memory->pass != scaler->pass) {
            forget(scaler, memory);
        }
    }
}
