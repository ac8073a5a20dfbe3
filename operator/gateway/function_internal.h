/* function_internal.h - what function_state.c and function_pods.c share. Everything here wants function->mu held. */
#ifndef CICADA_GATEWAY_FUNCTION_INTERNAL_H
#define CICADA_GATEWAY_FUNCTION_INTERNAL_H

#include "operator/gateway/function_state.h"

/* What has to be done once the lock is released. */
struct aftermath {
    struct waiter_queue settled;
    bool attend;
};
void aftermath_init(struct aftermath *aftermath);
void function_unlock(struct function_state *function,
                     struct aftermath *aftermath); /* unlocks, then does it */

/* Brings the integrals up to date: before any change of waiting or in_flight. */
void function_account(struct function_state *function, int64_t now_us);
/* Serves or refuses waiters after a change of pods, shares or the spec. */
void function_settle_waiters(struct function_state *function, struct aftermath *aftermath);
void function_set_usable(struct function_state *function, struct pod *pod, bool usable);
void function_recompute_share(struct function_state *function);
/* Brings pod->dealt of the usable pods up to date. */
void function_deal(struct function_state *function);
void code_copy(char out[GATEWAY_CODE_SIZE], const char *code);

#endif
