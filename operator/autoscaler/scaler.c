#include "operator/autoscaler/scaler.h"

#include <stdint.h>
#include <string.h>
#include <uthash.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"

/* What is remembered of a Function from pass to pass. */
struct memory {
    UT_hash_handle hh; /* key: id */
    struct autoscaler_history history;
    uint64_t pass; /* that saw it last */
    char id[];
};

struct scaler {
    struct scaler_platform platform;
    struct memory *memories;
    uint64_t pass;
    struct metric *ups, *downs, *sleeps, *failures, *unread;
};

static struct metric *scale_metric(struct metric_family *family, const char *direction)
{
    return metric_family_get(family, (const char *const[]){direction});
}

struct scaler *scaler_new(const struct scaler_platform *platform, struct metrics *metrics)
{
    static const char *const direction_label[] = {"direction", NULL};
    struct scaler *scaler = xcalloc(1, sizeof *scaler);
    scaler->platform = *platform;
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
    return scaler;
}

static void forget(struct scaler *scaler, struct memory *memory)
{
    /* What is freed is in the table no more. NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
    HASH_DEL(scaler->memories, memory);
    autoscaler_history_release(&memory->history);
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
    free(scaler);
}

static struct memory *remember(struct scaler *scaler, const char *id)
{
    struct memory *memory;
    HASH_FIND_STR(scaler->memories, id, memory);
    if (!memory) {
        size_t size = strlen(id) + 1;
        memory = xcalloc(1, sizeof *memory + size);
        memcpy(memory->id, id, size);
        /* In the first pass all are new; later, one that was not there before slept, or was just made. */
        memory->history.slept = scaler->pass > 1;
        HASH_ADD_STR(scaler->memories, id, memory);
    }
    return memory;
}

static bool write_replicas(struct scaler *scaler, const struct scaler_target *target, int replicas,
                           const struct autoscaler_load *load)
{
    struct err err = ERR_INIT;
    if (scaler->platform.write(scaler->platform.arg, target, replicas, &err) < 0) {
        bool moved_on = err.code == ERR_CONFLICT || err.code == ERR_NOT_FOUND;
        if (!moved_on && err.code != ERR_CANCELLED) {
            metric_add(scaler->failures, 1);
            log_warn("%s/%s: scaling to %d failed: %s", target->namespace, target->name, replicas, err.msg);
        }
        return false;
    }
    metric_add(replicas == 0                       ? scaler->sleeps
               : replicas > target->state.replicas ? scaler->ups
                                                   : scaler->downs,
               1);
    log_info("%s/%s: %d -> %d replicas (load %.1f, waiting %lld)", target->namespace, target->name,
             target->state.replicas, replicas, load->mean, (long long)load->waiting);
    return true;
}

static void visit(void *visitor, const struct scaler_target *target)
{
    struct scaler *scaler = visitor;
    if (target->state.replicas == 0 && target->settings.min_replicas == 0) {
        return; /* asleep, which most are: nothing to decide, and what was before is forgotten */
    }
    struct memory *memory = remember(scaler, target->id);
    memory->pass = scaler->pass;
    struct autoscaler_load load =
        scaler->platform.load(scaler->platform.arg, target->namespace, target->name);
    autoscaler_observe(&memory->history, &target->settings, &target->state, &load);
    int replicas = autoscaler_decide(&memory->history, &target->settings, &target->state, &load).replicas;
    if (replicas != target->state.replicas && write_replicas(scaler, target, replicas, &load)) {
        autoscaler_wrote(&memory->history, replicas, load.at_ms);
    }
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
