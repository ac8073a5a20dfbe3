/* controller.h - the worker loop around a reconcile function, and the parts every operator program has: leader election,
 * event recorder.
 *
 * Threads: reconcile runs on worker threads, never twice at once for one key.
 */
#ifndef CICADA_CONTROLLER_CONTROLLER_H
#define CICADA_CONTROLLER_CONTROLLER_H

#include <stdbool.h>
#include <stdint.h>

#include "operator/kube/kube_client.h"
#include "operator/queue/workqueue.h"
#include "runtime/base/metrics.h"
#include "runtime/base/stop.h"

/* ---- workers ---- */
struct reconcile_result {
    int64_t requeue_after_ms; /* 0: none */
};
/* -1: err.code decides: INVALID = terminal (forget), CONFLICT/GONE/NOT_FOUND = back off quietly, else back off and log. */
typedef int reconcile_fn(void *arg, const struct object_key *key, struct reconcile_result *ret,
                         struct err *err);

struct controller;
struct controller *controller_new(const char *name, struct workqueue *queue, int workers,
                                  reconcile_fn *reconcile, void *arg, struct metrics *metrics);
void controller_start(struct controller *controller);
void controller_stop(
    struct controller *controller); /* shuts the queue down, joins: items in progress are finished */
void controller_free(struct controller *controller);

/* ---- leader election on a Lease: 15 s duration, 10 s renew deadline, 2 s retry, jittered; only local observation times count.
 * It is no fencing: on loss the program stops its workers and exits non-zero at once. ---- */
struct lease_settings {
    const char *namespace, *name, *identity;
    int64_t duration_ms, renew_deadline_ms, retry_ms;
    void (*on_elected)(void *arg); /* on the election's thread */
    void (*on_lost)(void *arg);
    void *arg;
};
struct lease;
struct lease *lease_new(struct kube_client *client, const struct lease_settings *settings);
void lease_start(struct lease *lease);
bool lease_is_leader(const struct lease *lease);
void lease_stop(struct lease *lease, bool release); /* release: hand over at once (holder set empty) */
void lease_free(struct lease *lease);

/* ---- Events: a bounded queue and a thread; the same (object, reason, message) within 10 min patches count; dropped when full
 * (counted). ---- */
struct event_recorder;
struct event_recorder *event_recorder_new(struct kube_client *client, const char *component,
                                          struct metrics *metrics);
void event_recorder_start(struct event_recorder *recorder);
/* type: "Normal" or "Warning". The object reference is copied. False: the queue is full, and it is dropped. */
bool event_recorder_emit(struct event_recorder *recorder, const char *api_version, const char *kind,
                         const char *namespace, const char *name, const char *uid, const char *type,
                         const char *reason, const char *message);
void event_recorder_stop(struct event_recorder *recorder); /* flushes for at most 3 s */
void event_recorder_free(struct event_recorder *recorder);

#endif
