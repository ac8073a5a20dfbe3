/* route.h - from listener, Host and path to a function.
 *
 * A table is built from all functions at once and never changes; a change builds another. The rules are those of the README:
 * on the internal listener <name>.<namespace>[.svc[.<cluster domain>]] for every function first; then, for functions with
 * http, <name>.<namespace>.<domain>, hosts ("*.x" stands for one label) with the longest path by whole elements, and
 * /fn/<namespace>/<name>/... on a host that is nobody's. Our own names come before hosts, so that no Function can
 * claim another's. A host belongs to the namespace of its oldest Function.
 *
 * Ownership: a table is reference-counted and holds references on functions and specs; a match borrows them.
 * Threads: a table is immutable.
 */
#ifndef CICADA_GATEWAY_ROUTE_H
#define CICADA_GATEWAY_ROUTE_H

#include <stdbool.h>
#include <stddef.h>

#include "operator/function/function_spec.h"
#include "operator/gateway/h1_head.h"

struct function_state;
struct route_table;

struct route_function {
    struct function_state *function;
    struct function_spec *spec;
};

/* functions[i].spec is not NULL. domain, cluster_domain: NULL for none. */
struct route_table *route_table_new(const struct route_function *functions, size_t count, const char *domain,
                                    const char *cluster_domain);
struct route_table *route_table_ref(struct route_table *table);
void route_table_unref(struct route_table *table); /* NULL is fine */

enum route_result {
    ROUTE_FOUND,
    ROUTE_NONE,
    ROUTE_BARE_NAME, /* internal listener, one label: the namespace is missing */
    ROUTE_BAD_PATH,  /* "." or ".." among the elements: what it means depends on the reader */
};

struct route_match {
    struct function_state *function;
    struct function_spec *spec;
    struct h1_slice prefix; /* stripped from the path; may be empty */
    struct h1_slice rest;   /* what the function sees; a '/' goes before it unless it begins with one */
};

/* target: origin form, with its query; may be empty. */
enum route_result route_table_match(const struct route_table *table, bool internal, struct h1_slice host,
                                    struct h1_slice target, struct route_match *ret_match);

/* The Secret whose certificate a TLS client gets that asks for name: that of the oldest Function of the host's owner that names one. A host
 * of its own without one gets that of the wildcard above it if both have the same owner. A function's own name gets its own. False: there is none. */
bool route_table_tls_secret(const struct route_table *table, const char *name, const char **ret_namespace,
                            const char **ret_secret);
/* Whether a Host header means that name: case, port and final dot aside. */
bool route_host_is(struct h1_slice host, const char *name);

#endif
