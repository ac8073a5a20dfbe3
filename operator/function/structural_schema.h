/* structural_schema.h - Kubernetes' structural schemas (the openAPIV3Schema of a CRD), compiled and applied to a tree.
 *
 * What it judges is what an API server judges when it is given an object: nulls of fields that are not nullable count as
 * absent, a field that the schema does not know is reported (the API server drops it, kubectl refuses it), then types,
 * limits, patterns, choices, list maps and sets. A keyword that it does not know makes compiling fail, so that nothing is
 * silently unchecked. Patterns are POSIX extended regular expressions; texts are counted in Unicode code points.
 *
 * Defaults are not filled in: function_spec_parse() does that.
 *
 * Ownership: a schema keeps no reference to the tree that it was compiled from. Threads: immutable once compiled.
 */
#ifndef CICADA_FUNCTION_STRUCTURAL_SCHEMA_H
#define CICADA_FUNCTION_STRUCTURAL_SCHEMA_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/err.h"

#define SCHEMA_PROBLEMS_MAX 100 /* of one object; the rest is counted only */

enum schema_problem_kind {
    SCHEMA_INVALID,       /* the API server refuses it */
    SCHEMA_UNKNOWN_FIELD, /* the API server drops it, kubectl refuses it */
    SCHEMA_CROSS_FIELD, /* a rule between fields: refused from Kubernetes 1.25 on, before that by the operator */
};

struct schema_problem {
    enum schema_problem_kind kind;
    char *path;        /* "spec.http.path", "spec.env[0].name"; "" is the whole object */
    char *message;     /* "must be at least 1" */
    const cJSON *node; /* at fault, borrowed from the tree; of a field that is missing, what lacks it */
};

struct schema_problems {
    struct schema_problem *items;
    size_t count;
    size_t left_out; /* above SCHEMA_PROBLEMS_MAX */
};

#define SCHEMA_PROBLEMS_INIT                                                                                 \
    {                                                                                                        \
        0                                                                                                    \
    }

void schema_problems_add(struct schema_problems *problems, enum schema_problem_kind kind, const char *path,
                         const cJSON *node, const char *format, ...) __attribute__((format(printf, 5, 6)));
void schema_problems_release(struct schema_problems *problems);
#define CLEANUP_SCHEMA_PROBLEMS __attribute__((cleanup(schema_problems_release)))

struct structural_schema;

/* tree: a schema node with all below it. err names the keyword and where it stands. */
int structural_schema_compile(const cJSON *tree, struct structural_schema **ret_schema,
                              struct err *err) MUST_CHECK;
void structural_schema_free(struct structural_schema *schema); /* NULL is fine */

/* Adds to problems. path: where `value` is, "" for a whole object. */
void structural_schema_check(const struct structural_schema *schema, const cJSON *value, const char *path,
                             struct schema_problems *problems);

/* Removes the members that are null and count as absent. No problem was reported for any of them. */
void structural_schema_drop_nulls(const struct structural_schema *schema, cJSON *value);

#endif
