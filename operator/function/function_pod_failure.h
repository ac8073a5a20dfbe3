/* function_pod_failure.h - why a pod can't serve, in the words of the Function's conditions. Pure.
 *
 * Kubernetes shows it in many places (waiting reasons, exits, termination messages, scheduling); this is the one that
 * knows them. A pod that is ready, going away, or merely not there yet has no failure. Threads: none of its own.
 */
#ifndef CICADA_FUNCTION_FUNCTION_POD_FAILURE_H
#define CICADA_FUNCTION_FUNCTION_POD_FAILURE_H

#include <stdbool.h>
#include <stdint.h>

#include "operator/function/function_objects.h"

struct pod_failure {
    char reason[CONDITION_REASON_SIZE];
    char message[CONDITION_MESSAGE_MAX];
    /* The pod only waits for its next try and does not say again what was wrong: an older message of this reason is better. */
    bool is_back_off;
    /* Not a failure yet, but one in this many ms if nothing changes (false was returned); 0: no. */
    int64_t due_in_ms;
};

/* Why the container ended last, though it may run again: an exit of the kind that pod_failure_find() waits with. False: it has not, ended
 * as it was told to, or for a reason that pod_failure_find() tells at once. */
bool pod_failure_passing_exit(const struct cached_pod *pod, const char *image,
                              struct pod_failure *ret_failure);
bool pod_failure_find(const struct cached_pod *pod, const char *image, int64_t now_ms,
                      struct pod_failure *ret_failure);

#endif
