/* kube_log_turn.h - how often the same kind of failure may be logged: at most one line in a while, which says how many it stands for.
 *
 * Threads: any.
 */
#ifndef CICADA_GATEWAY_KUBE_LOG_TURN_H
#define CICADA_GATEWAY_KUBE_LOG_TURN_H

#include <pthread.h>
#include <stdint.h>

struct kube_log_turn {
    pthread_mutex_t mu;
    int64_t logged_ms; /* guarded by mu; 0: never */
    int64_t unlogged;  /* guarded by mu */
};

void kube_log_turn_init(struct kube_log_turn *turn);
void kube_log_turn_release(struct kube_log_turn *turn);
/* Counts one failure. How many the line stands for that may be written now; 0: write none. */
int64_t kube_log_turn_take(struct kube_log_turn *turn);

#endif
