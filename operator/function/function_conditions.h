/* function_conditions.h - what the world says about a Function, as conditions. Pure: ordered checks, the first that has an answer
 * gives it.
 *
 * Ready sums up ConfigurationValid, Deployed, Routed and, where there are triggers, TriggersReady: False if one is, else Unknown if one is. Threads: none of its own.
 */
#ifndef CICADA_FUNCTION_FUNCTION_CONDITIONS_H
#define CICADA_FUNCTION_FUNCTION_CONDITIONS_H

#include "operator/function/function_world.h"

/* Fills all conditions of a zeroed status, and what else it shows, but for times and generations. facts: NULL if the spec
 * is invalid. replicas: that the Deployment is to have once the plan is carried out. */
void function_conditions_fill(const struct function_world *world, const struct function_facts *facts,
                              int replicas, struct function_status *status);
/* Computes Ready from the others; again after one of them was changed. */
void function_conditions_sum_up(struct function_status *status);

#endif
