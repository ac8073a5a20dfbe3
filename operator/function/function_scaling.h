/* function_scaling.h - a Function's spec as the autoscaler reads it. Pure. Threads: none of its own. */
#ifndef CICADA_FUNCTION_FUNCTION_SCALING_H
#define CICADA_FUNCTION_FUNCTION_SCALING_H

#include "operator/autoscaler/autoscaler.h"
#include "operator/function/function_spec.h"

/* proving: its newest template has yet to become able to serve, which takes initialReplicas. */
struct autoscaler_settings function_scaling_settings(const struct function_spec *spec, bool proving);

#endif
