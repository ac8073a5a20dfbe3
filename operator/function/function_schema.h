/* function_schema.h - judges objects of a manifest as an API server with our CRD does, without one.
 *
 * The schema is the CRD's own (crds/cicada.dev_functions.yaml), which is part of the program; nothing of it is repeated here.
 * function_spec_parse() has the rules between fields and the defaults. operator/tests/test_function_crd.c holds both to the CRD.
 *
 * Not judged: status (an API server drops what a client creates with it), metadata.ownerReferences and managedFields.
 *
 * Threads: immutable once it is there.
 */
#ifndef CICADA_FUNCTION_FUNCTION_SCHEMA_H
#define CICADA_FUNCTION_FUNCTION_SCHEMA_H

#include "operator/function/function_spec.h"
#include "operator/function/structural_schema.h"

extern const char function_crd_text[];

struct function_schema;

/* err: the CRD or a schema of ours has something that structural_schema.h does not know, which a test excludes. */
int function_schema_new(struct function_schema **ret_schema, struct err *err) MUST_CHECK;
void function_schema_free(struct function_schema *schema); /* NULL is fine */

/* object: apiVersion and kind are those of a Function; metadata.namespace is there. Adds to problems; *ret_spec is set (a new
 * reference) if there is none, else left alone. Nulls that count as absent are removed from a valid object. */
void function_schema_check(const struct function_schema *schema, cJSON *object,
                           struct schema_problems *problems, struct function_spec **ret_spec);

/* Name, namespace, labels and annotations of any namespaced object. What the type of a member is, the caller's schema has told. */
void function_schema_check_metadata(const cJSON *object, struct schema_problems *problems);

/* Puts a schema in place of properties.metadata of `tree`: what ObjectMeta has, unknown fields included. */
int function_schema_add_metadata(cJSON *tree, struct err *err) MUST_CHECK;

#endif
