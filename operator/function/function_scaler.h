/* function_scaler.h - once a second: reads the gateways, decides for every Function, writes what changed to its scale.
 *
 * It scales Functions without pinned replicas whose Deployment is there and ours; from zero to one is the gateway's step when a request
 * comes, and this one's when events do, at once (function_scaler_wake()); what a proof needs is the reconciler's. A write carries the Deployment's version: if that moved on, the next tick decides again.
 *
 * Changes are shown as Events ScaledUp, ScaledDown and ScaledToZero of the Function.
 *
 * Threads: one of its own between start and stop; only the leader starts it. function_scaler_told() and _wake(): any.
 */
#ifndef CICADA_FUNCTION_FUNCTION_SCALER_H
#define CICADA_FUNCTION_FUNCTION_SCALER_H

#include "operator/backlog/backlog.h"
#include "operator/controller/controller.h"
#include "operator/function/function_cache.h"
#include "runtime/base/metrics.h"

struct function_scaler;

/* All borrowed; backlog NULL: nobody watches databases. */
struct function_scaler *function_scaler_new(struct kube_client *client, struct function_cache *cache,
                                            struct event_recorder *recorder, struct backlog *backlog,
                                            int gateway_admin_port, struct metrics *metrics);
void function_scaler_start(struct function_scaler *scaler);
void function_scaler_stop(struct function_scaler *scaler); /* joins; nothing if it was not started */
void function_scaler_free(struct function_scaler *scaler); /* NULL is fine */
/* ms since the last tick began; 0 while it is not started. For /livez. */
int64_t function_scaler_silence_ms(const struct function_scaler *scaler);
/* Events wait for it: if it sleeps, it is looked at now, not only by the next tick. */
void function_scaler_wake(struct function_scaler *scaler, const char *namespace, const char *name);
/* Why the Function of that uid has so many replicas; NULL: it was not the scaler who last changed them. The caller frees. */
char *function_scaler_told(struct function_scaler *scaler, const char *uid, int replicas);

#endif
