/* function_runtime_spec.h - what the runtime needs of a Function's spec, as it gets it in CICADA_SPEC (operator/PROTOCOLS.md). Pure.
 *
 * No more than that: a change of scaling or routes must neither roll pods nor restart processes. Threads: none of its own.
 */
#ifndef CICADA_FUNCTION_FUNCTION_RUNTIME_SPEC_H
#define CICADA_FUNCTION_FUNCTION_RUNTIME_SPEC_H

#include "operator/function/function_spec.h"

/* The caller frees with cJSON_Delete(). */
cJSON *function_runtime_spec_build(const struct function_spec *spec);

#endif
