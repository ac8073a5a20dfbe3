/* sql_bind.h - the parameters of an SQL function, as one request gives them.
 *
 * A name gets its value from the path template, the query, or the top level of the JSON body; from two of them is refused.
 * One that is missing has the default that the function gives it, or is refused. Members and fields that no statement uses are
 * ignored. The reserved names stand for the request's parts as jsonb.
 *
 *     path, query     bound as it stands; `a=` is the empty string
 *     JSON body       see runtime/sql/sql_param.h
 *     array types     from the query: an array literal ({1,2}) as it stands, else each `a=` is an element
 *
 * Ownership: texts are the request's or the arena's. Threads: none of its own.
 */
#ifndef CICADA_HOST_SQL_BIND_H
#define CICADA_HOST_SQL_BIND_H

#include "runtime/base/err.h"
#include "runtime/host/arena.h"
#include "runtime/host/cloud_event.h"
#include "runtime/host/request.h"
#include "runtime/host/spec.h"
#include "runtime/sql/sql_text.h"
#include "runtime/sql/sql_types.h"

#define SQL_BIND_MAX_BYTES (64u << 20) /* texts made from JSON, together */

/* What is wrong with a request; without values. */
struct sql_bind_refusal {
    int status;
    const char *code; /* "missing_parameter", ...: a literal */
    char detail[200];
};

struct sql_bind {
    const struct sql_text *text; /* borrowed, as all below */
    struct sql_types *types;
    struct arena *arena;
    struct cicada_request *request;
    size_t made_bytes;
    struct sql_bind_value {
        enum { SQL_BIND_ABSENT, SQL_BIND_TEXT, SQL_BIND_QUERY, SQL_BIND_JSON } from;
        const char *value; /* TEXT, QUERY (the first of that name); NULL: SQL NULL */
        bool repeated;     /* QUERY: not the only one */
        const struct json_node *json;
    } values[SQL_NAMES_MAX]; /* as text->names */
};

/* Finds all values; event: what the request brings, or NULL. -1: *refusal. A body that is JSON by its type, or may be, was parsed before or is now; if it is malformed,
 * request->json_malformed says so and the refusal does not count. */
int sql_bind_begin(struct sql_bind *bind, const struct sql_text *text, struct sql_types *types,
                   const struct function_spec *spec, struct cicada_request *request,
                   const struct cloud_event *event, struct arena *arena,
                   struct sql_bind_refusal *refusal) MUST_CHECK;
/* The parameters of one statement; types as the server told. */
int sql_bind_statement(struct sql_bind *bind, const struct sql_statement *statement,
                       const unsigned *param_types, const char **ret_params,
                       struct sql_bind_refusal *refusal) MUST_CHECK;

#endif
