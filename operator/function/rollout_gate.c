#include "operator/function/rollout_gate.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"

struct place {
    char *namespace, *name; /* NULL: free */
    int64_t since_ms;
};

struct rollout_gate {
    pthread_mutex_t mu;
    struct place places[ROLLOUT_GATE_AWAKE]; /* guarded by mu */
    int64_t next_asleep_ms;                  /* guarded by mu */
};

struct rollout_gate *rollout_gate_new(void)
{
    struct rollout_gate *gate = xcalloc(1, sizeof *gate);
    pthread_mutex_init(&gate->mu, NULL);
    return gate;
}

static void clear_place(struct place *place)
{
    free(place->namespace);
    free(place->name);
    memset(place, 0, sizeof *place);
}

void rollout_gate_free(struct rollout_gate *gate)
{
    if (!gate) {
        return;
    }
    for (size_t i = 0; i < ROLLOUT_GATE_AWAKE; i++) {
        clear_place(&gate->places[i]);
    }
    pthread_mutex_destroy(&gate->mu);
    free(gate);
}

static bool holds(const struct place *place, const char *namespace, const char *name)
{
    return place->name && strcmp(place->name, name) == 0 && strcmp(place->namespace, namespace) == 0;
}

static bool take_place(struct rollout_gate *gate, const char *namespace, const char *name, int64_t now_ms)
{
    struct place *free_place = NULL;
    for (size_t i = 0; i < ROLLOUT_GATE_AWAKE; i++) {
        struct place *place = &gate->places[i];
        if (holds(place, namespace, name)) {
            return true;
        }
        if (place->name && now_ms - place->since_ms > ROLLOUT_GATE_HOLD_MS) {
            clear_place(place);
        }
        if (!place->name && !free_place) {
            free_place = place;
        }
    }
    if (!free_place) {
        return false;
    }
    *free_place = (struct place){.namespace = xstrdup(namespace), .name = xstrdup(name), .since_ms = now_ms};
    return true;
}

bool rollout_gate_enter(struct rollout_gate *gate, const char *namespace, const char *name, bool awake,
                        int64_t now_ms)
{
    bool allowed;
    pthread_mutex_lock(&gate->mu);
    if (awake) {
        allowed = take_place(gate, namespace, name, now_ms);
    } else {
        allowed = now_ms >= gate->next_asleep_ms;
        if (allowed) {
            gate->next_asleep_ms = now_ms + 1000 / ROLLOUT_GATE_ASLEEP_PER_SECOND;
        }
    }
    pthread_mutex_unlock(&gate->mu);
    return allowed;
}

void rollout_gate_leave(struct rollout_gate *gate, const char *namespace, const char *name)
{
    pthread_mutex_lock(&gate->mu);
    for (size_t i = 0; i < ROLLOUT_GATE_AWAKE; i++) {
        if (holds(&gate->places[i], namespace, name)) {
            clear_place(&gate->places[i]);
        }
    }
    pthread_mutex_unlock(&gate->mu);
}
