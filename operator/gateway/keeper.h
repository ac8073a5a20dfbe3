/* keeper.h - looks after one function while it needs it: calls the waker at once and each second while requests wait and
 * no pod is usable, and has its pods probed until they are usable or gone.
 *
 * Ownership: made when a function becomes known; keeper_close() ends it on its loop and then drops the last reference on
 * the function.
 * Threads: keeper_attend() from any thread; the rest runs on the keeper's loop.
 */
#ifndef CICADA_GATEWAY_KEEPER_H
#define CICADA_GATEWAY_KEEPER_H

#include "operator/gateway/gateway_internal.h"

struct keeper;

struct keeper *keeper_new(struct worker *worker, struct function_state *function);
void keeper_attend(void *arg); /* the keeper: function_state's `attend` */
void keeper_close(struct keeper *keeper);
void keeper_free(struct keeper *keeper); /* the same when no loop runs any more */

#endif
