#include "operator/autoscaler/autoscaler.h"
#include "runtime/base/mem.h"

const char *autoscaler_reason_text(enum autoscaler_reason reason)
{
    switch (reason) {
    case AUTOSCALER_LOAD:
        return "as the load asks";
    case AUTOSCALER_PANIC:
        return "the load rose suddenly";
    case AUTOSCALER_ACTIVATION:
        return "just woken (scaling.activationReplicas)";
    case AUTOSCALER_FOUND:
        return "as found, for the first window";
    case AUTOSCALER_RATE:
        return "not less than half at once";
    case AUTOSCALER_DELAY:
        return "more was wanted within scaling.scaleDownDelaySeconds";
    case AUTOSCALER_MIN:
        return "the least (scaling.minReplicas)";
    case AUTOSCALER_MAX:
        return "the most (scaling.maxReplicas)";
    case AUTOSCALER_PROOF:
        return "a new generation is being proven";
    case AUTOSCALER_INCOMPLETE:
        return "some gateway cannot be read, so not fewer";
    case AUTOSCALER_NO_DATA:
        return "no gateway can be read";
    case AUTOSCALER_IDLE:
        return "idle";
    case AUTOSCALER_ASLEEP:
        return "asleep";
    case AUTOSCALER_EVENTS:
        return "as the events ask";
    case AUTOSCALER_UNSEEN:
        return "its database cannot be read, so not fewer";
    }
    return "";
}

char *autoscaler_decision_text(const struct autoscaler_decision *decision,
                               const struct autoscaler_settings *settings)
{
    return xasprintf("%d replica%s: %s (load %.1f over %lld s, %.1f over %lld s; target %.1f for each)",
                     decision->replicas, decision->replicas == 1 ? "" : "s",
                     autoscaler_reason_text(decision->reason), decision->stable,
                     (long long)settings->window_ms / 1000, decision->burst,
                     (long long)autoscaler_panic_window_ms(settings) / 1000, decision->target);
}
