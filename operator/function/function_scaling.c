#include "operator/function/function_scaling.h"

struct autoscaler_settings function_scaling_settings(const struct function_spec *spec, bool proving)
{
    return (struct autoscaler_settings){
        .min_replicas = spec->min_replicas,
        .max_replicas = spec->max_replicas,
        .awake_min = proving && spec->initial_replicas > 1 ? spec->initial_replicas : 1,
        .activation_replicas = spec->activation_replicas,
        .concurrency = spec->concurrency,
        .target_utilization = spec->target_utilization,
        .idle_ms = spec->idle_seconds * 1000LL,
        .window_ms = spec->window_seconds * 1000LL,
        .scale_down_delay_ms = spec->scale_down_delay_seconds * 1000LL,
    };
}
