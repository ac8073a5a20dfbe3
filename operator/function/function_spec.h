/* function_spec.h - the Function resource, parsed, defaulted and validated.
 *
 * The CRD (crds/) is the source of truth for fields, defaults and limits; this module applies the same ones, because
 * cicada-local has no API server and because objects may predate a schema. Everything that reads Functions (operator,
 * gateway, local) does it through this struct.
 *
 * Threads: a spec is immutable after function_spec_parse(); it is reference-counted.
 */
#ifndef CICADA_FUNCTION_FUNCTION_SPEC_H
#define CICADA_FUNCTION_FUNCTION_SPEC_H

#include <cjson/cJSON.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"

#define FUNCTION_API_VERSION "cicada.dev/v1alpha1"
#define FUNCTION_HOSTS_MAX   32
#define FUNCTION_METHODS_MAX 16

enum function_isolation { ISOLATION_READ_COMMITTED, ISOLATION_REPEATABLE_READ, ISOLATION_SERIALIZABLE };

struct function_spec {
    atomic_int refs;
    char *namespace, *name, *uid;
    int64_t generation;
    int64_t created_ms; /* metadata.creationTimestamp, wall; decides host ownership */
    bool deleting;

    char *image;           /* NULL: the operator's runtime image */
    char *handler;         /* "shop.so:handle_user_request" */
    cJSON *env, *env_from; /* arrays as given, or NULL */

    bool has_database;
    char *database_secret, *database_key;
    int database_pool_size;
    enum function_isolation database_isolation;

    int timeout_seconds, idle_timeout_seconds, hold_seconds, queue_depth, concurrency, drain_seconds;
    int64_t body_bytes, response_bytes, hold_bytes;

    int replicas; /* pinned; -1: the autoscaler's */
    int min_replicas, max_replicas, initial_replicas, target_utilization, idle_seconds, window_seconds,
        scale_down_delay_seconds;

    bool has_http;
    char **hosts; /* lower case; may hold "*.example.com" */
    size_t host_count;
    char *path;          /* "/" or "/orders", no final slash but for "/" */
    char *path_template; /* NULL: none */
    char **methods;      /* upper case; count 0: all */
    size_t method_count;
    int success_status;       /* 200 */
    char *ingress_class_name; /* "cicada" by default */

    cJSON *template; /* spec.template as given, or NULL */
};

/* object: a Function as the API returns it. err (ERR_INVALID) says "spec.http.path: must begin with '/'": field path first. */
int function_spec_parse(const cJSON *object, struct function_spec **ret_spec, struct err *err) MUST_CHECK;
struct function_spec *function_spec_ref(struct function_spec *spec);
void function_spec_unref(struct function_spec *spec); /* NULL is fine */

#endif
