/* trigger_plan.h - what a Function's triggers mean for its conditions, its status and its finalizer. Pure: no I/O, clock or log.
 *
 * The finalizer is there before anything of the Function is put into a database, and stays until that is removed or nothing can be done
 * about it. Threads: none of its own.
 */
#ifndef CICADA_FUNCTION_TRIGGER_PLAN_H
#define CICADA_FUNCTION_TRIGGER_PLAN_H

#include "operator/function/function_world.h"

enum finalizer_step { FINALIZER_KEEP, FINALIZER_ADD, FINALIZER_REMOVE };

struct finalizer_plan {
    enum finalizer_step step;
    char *
        left_behind; /* REMOVE, though something may be left in the database: what to tell people; owned, else NULL */
    int64_t requeue_after_ms; /* 0: none */
};

/* The caller frees ret_plan->left_behind. */
void trigger_plan_finalizer(const struct function_world *world, struct finalizer_plan *ret_plan);
/* What to tell people whose Function has another database since just now; NULL: it has not. The caller frees it. */
char *trigger_plan_left_behind(const struct function_world *world);
/* A merge patch of the Function's metadata, if it is still that version. */
cJSON *trigger_plan_finalizer_patch(const struct cached_function *function, enum finalizer_step step);

/* Leaves the condition absent for a Function without triggers. The spec must be valid. */
void trigger_plan_condition(const struct function_world *world, struct condition *condition);
/* When to look again at what no watch tells of: the Secret. 0: never. */
int64_t trigger_plan_recheck_ms(const struct function_world *world);

#endif
