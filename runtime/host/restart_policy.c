#include "runtime/host/restart_policy.h"

static void forget(struct restart_policy *policy, int64_t before_ms)
{
    int kept = 0;

    for (int i = 0; i < policy->crashes; i++) {
        if (policy->crashed_ms[i] > before_ms)
            policy->crashed_ms[kept++] = policy->crashed_ms[i];
    }
    policy->crashes = kept;
}

int64_t restart_policy_crashed(struct restart_policy *policy, int64_t now_ms)
{
    forget(policy, now_ms - RESTART_WINDOW_MS);
    policy->crashed_ms[policy->crashes++] = now_ms;
    if (policy->crashes == RESTART_CRASHES_MAX)
        return RESTART_GIVE_UP;
    return policy->crashes == 1 ? 0 : (int64_t)RESTART_DELAY_MS << (policy->crashes - 2);
}
