/* function_deployment.h - the Deployment that runs a Function, as a server-side apply intent. Pure.
 *
 * replicas is never part of it: scaling belongs to the autoscaler, the gateway and /scale. Pods carry no volume (any volume
 * doubles their start); what the runtime needs comes by environment. Threads: none of its own.
 */
#ifndef CICADA_FUNCTION_FUNCTION_DEPLOYMENT_H
#define CICADA_FUNCTION_FUNCTION_DEPLOYMENT_H

#include "operator/function/function_intent.h"

/* Sealed; annotated with the hashes of PROTOCOLS. The caller frees. */
cJSON *function_deployment_build(const struct function_spec *spec, const struct function_settings *settings);

/* Hash of the part of the pod template that the Function's own spec decides. It depends on no default of the operator
 * and on nothing that this program's version adds, so an upgrade does not ask for new proofs. */
void function_deployment_spec_template(const struct function_spec *spec, char out[INTENT_HASH_SIZE]);

/* Image of the pods. */
const char *function_deployment_image(const struct function_spec *spec,
                                      const struct function_settings *settings);

#endif
