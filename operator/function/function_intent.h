/* function_intent.h - the head that all objects made for a Function share, and the hash by which they are known again.
 *
 * An intent is the whole of what the operator wants of an object, and nothing else: it is sent by server-side apply. Its hash goes into
 * an annotation of the object itself, so a part dropped from the intent is noticed, too. The hash covers all but
 * itself. Threads: none of its own.
 */
#ifndef CICADA_FUNCTION_FUNCTION_INTENT_H
#define CICADA_FUNCTION_FUNCTION_INTENT_H

#include <cjson/cJSON.h>

#include "operator/function/function_names.h"

#define INTENT_HASH_SIZE 17

/* 16 hexadecimal digits. */
void function_intent_hash(const cJSON *tree, char out[INTENT_HASH_SIZE]);

/* apiVersion, kind, metadata with labels, owner reference and empty annotations. The caller frees. */
cJSON *function_intent_new(const struct function_spec *spec, const struct kube_resource *resource);
cJSON *function_intent_annotations(cJSON *intent);
/* Adds the two labels by which objects of a Function are found. */
void function_intent_add_labels(cJSON *labels, const char *function_name);
/* Last: puts the hash of everything so far into the annotation. */
void function_intent_seal(cJSON *intent);
/* The hash in a sealed intent. */
const char *function_intent_sealed_hash(const cJSON *intent);

#endif
