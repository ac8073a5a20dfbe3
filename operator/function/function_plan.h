/* function_plan.h - what is to be done for one Function: world in, actions, status and events out. Pure: no I/O, clock or log.
 *
 * Actions are in the order in which they must be executed; each is safe to repeat. Ownership: a plan owns all it
 * holds. Threads: none of its own.
 */
#ifndef CICADA_FUNCTION_FUNCTION_PLAN_H
#define CICADA_FUNCTION_FUNCTION_PLAN_H

#include "operator/function/function_world.h"

enum plan_verb {
    PLAN_APPLY,        /* body is the intent */
    PLAN_APPLY_STATUS, /* body is the intent of the object's status */
    PLAN_ANNOTATE,     /* body is a merge patch of the object's metadata */
    PLAN_FINALIZER,    /* so is this, of the Function itself */
    /* Of the Deployment to `replicas`, if it is still the version that was seen or just written; if this plan made it, whatever
     * its version. */
    PLAN_SCALE,
    PLAN_DELETE, /* if it still has `uid` */
};

struct plan_action {
    enum plan_verb verb;
    const struct kube_resource *resource;
    cJSON *body;
    char *uid;
    int replicas;
};

#define PLAN_LEFT_BEHIND                                                                                     \
    "TriggersLeftBehind" /* reason of the Event: the finalizer went, or the database is another one; what was installed did not */

struct plan_event {
    bool warning;
    char *reason, *message;
};

#define PLAN_ACTIONS_MAX 8

struct function_plan {
    struct plan_action actions[PLAN_ACTIONS_MAX];
    size_t action_count;
    struct function_status status;   /* what is to be shown; stamped */
    bool write_status;               /* it differs from what is there */
    struct plan_event event;         /* reason NULL: none */
    struct plan_event trigger_event; /* what of its triggers `event` does not tell; so too */
    bool wants_roll;          /* only may_roll kept it from applying a change of the operator's defaults */
    int64_t requeue_after_ms; /* 0: none */
};

void function_plan_compute(const struct function_world *world, struct function_plan *ret_plan);
/* Sets one condition aside from the world (the API server refused an action), and what follows: Ready, event, write_status. */
void function_plan_refused(const struct function_world *world, struct function_plan *plan,
                           enum condition_type type, const char *reason, const char *message);
void function_plan_release(struct function_plan *plan);

#endif
