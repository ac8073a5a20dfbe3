/* restart_policy.h - when a worker that crashed is started again: decided from when it crashed, without waiting or acting. */
#ifndef CICADA_HOST_RESTART_POLICY_H
#define CICADA_HOST_RESTART_POLICY_H

#include <stdint.h>

#define RESTART_CRASHES_MAX 5 /* so many within the window, and it is the kubelet's turn */
#define RESTART_WINDOW_MS   60000
#define RESTART_DELAY_MS                                                                                     \
    100 /* of the second restart within the window; the first is at once, the next wait twice as long each */
#define RESTART_GIVE_UP (-1)

struct restart_policy {
    int64_t crashed_ms[RESTART_CRASHES_MAX]; /* oldest first */
    int crashes;                             /* within the window, as of the last crash */
};

/* Notes a crash. How long to wait before the next start, in ms, or RESTART_GIVE_UP. */
int64_t restart_policy_crashed(struct restart_policy *policy, int64_t now_ms);

#endif
