#include "operator/gateway/kube_log_turn.h"

#include "runtime/base/clock.h"

#define INTERVAL_MS 1000

void kube_log_turn_init(struct kube_log_turn *turn)
{
    *turn = (struct kube_log_turn){0};
    pthread_mutex_init(&turn->mu, NULL);
}

void kube_log_turn_release(struct kube_log_turn *turn)
{
    pthread_mutex_destroy(&turn->mu);
}

int64_t kube_log_turn_take(struct kube_log_turn *turn)
{
    int64_t now_ms = clock_monotonic_ms(), stands_for = 0;
    pthread_mutex_lock(&turn->mu);
    turn->unlogged++;
    if (turn->logged_ms == 0 || now_ms - turn->logged_ms >= INTERVAL_MS) {
        stands_for = turn->unlogged;
        turn->unlogged = 0;
        turn->logged_ms = now_ms;
    }
    pthread_mutex_unlock(&turn->mu);
    return stands_for;
}
