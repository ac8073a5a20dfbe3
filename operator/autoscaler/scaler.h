/* scaler.h - one pass over all Functions: looks at their load, decides, and has what changed written.
 *
 * What Functions run on is behind struct scaler_platform: Deployments (function/function_scaler.c) or processes (local/). It
 * remembers the history of each Function that is awake, from pass to pass, by its id, and shows in metrics what it decided.
 *
 * Threads: none of its own; one owner, but for scaler_told().
 */
#ifndef CICADA_AUTOSCALER_SCALER_H
#define CICADA_AUTOSCALER_SCALER_H

#include "operator/autoscaler/autoscaler.h"
#include "runtime/base/err.h"
#include "runtime/base/metrics.h"

/* A Function that may be scaled, as it is at this moment. */
struct scaler_target {
    const char *id; /* the Function's uid */
    const char *namespace, *name;
    struct autoscaler_settings settings;
    struct autoscaler_state state;
    bool has_triggers;  /* events may wait for it, also while it sleeps */
    const void *object; /* the platform's own */
};

typedef void scaler_visit(void *visitor, const struct scaler_target *target);

struct scaler_platform {
    /* Reads what every gateway says now; returns how many could not be read. */
    size_t (*read_gateways)(void *arg);
    /* What they said of a Function. */
    struct autoscaler_load (*load)(void *arg, const char *namespace, const char *name);
    /* Calls visit for each Function that is the autoscaler's to scale; what it is given is borrowed for the call. */
    void (*each)(void *arg, scaler_visit *visit, void *visitor);
    /* Asks for that many replicas. ERR_CONFLICT, ERR_NOT_FOUND: it moved on, the next pass decides again. */
    int (*write)(void *arg, const struct scaler_target *target, int replicas, struct err *err);
    /* That was written; target->state.replicas is the number before. NULL: nobody wants to know. */
    void (*wrote)(void *arg, const struct scaler_target *target, const struct autoscaler_decision *decision);
    void *arg;
};

struct scaler;
struct scaler *scaler_new(const struct scaler_platform *platform,
                          struct metrics *metrics); /* metrics: borrowed */
void scaler_free(struct scaler *scaler);            /* NULL is fine */
void scaler_pass(struct scaler *scaler);
/* At one of them, between passes: by the figures that the last one read. */
void scaler_look(struct scaler *scaler, const struct scaler_target *target);
/* Why the Function has that many replicas, if the last change was to that number: autoscaler_decision_text(), for the caller to free;
 * else NULL. Any thread; it is known before others can see the change. */
char *scaler_told(struct scaler *scaler, const char *id, int replicas);

#endif
