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

#define FUNCTION_PARAMETERS_MAX      64
#define FUNCTION_DEFAULT_MAX_BYTES   1024
#define FUNCTION_CONCURRENCY_DEFAULT 16

#define FUNCTION_TRIGGERS_MAX        16
#define FUNCTION_TRIGGER_COLUMNS_MAX 64

enum function_idempotency {
    FUNCTION_IDEMPOTENCY_NONE,
    FUNCTION_IDEMPOTENCY_OPTIONAL,
    FUNCTION_IDEMPOTENCY_REQUIRED
};
enum function_isolation { ISOLATION_READ_COMMITTED, ISOLATION_REPEATABLE_READ, ISOLATION_SERIALIZABLE };

enum trigger_source { TRIGGER_QUEUE, TRIGGER_TABLE, TRIGGER_SCHEDULE };
enum trigger_missed { TRIGGER_MISSED_SKIP, TRIGGER_MISSED_RUN_ONCE, TRIGGER_MISSED_RUN_ALL };

/* Where events come from. What belongs to another source is NULL or 0. */
struct function_trigger {
    char *name;
    enum trigger_source source;

    char *queue; /* TRIGGER_QUEUE */

    char *table;       /* TRIGGER_TABLE: "public.orders", as SQL writes it */
    char **operations; /* "INSERT", "UPDATE", "DELETE", "TRUNCATE"; at least one */
    size_t operation_count;
    char **columns; /* as the catalog has them; count 0: all */
    size_t column_count;
    char *when; /* NULL: none */

    char *cron,
        *time_zone; /* TRIGGER_SCHEDULE; cron_parse() takes it; "UTC" by default. Whether there is such a zone, zoneinfo tells */
    enum trigger_missed missed;

    int batch_size, max_attempts, backoff_seconds, max_backoff_seconds;
    bool ordered;
};

struct function_spec {
    atomic_int refs;
    char *namespace, *name, *uid;
    int64_t generation;
    int64_t created_ms; /* metadata.creationTimestamp, wall; decides host ownership */
    bool deleting;

    char *image;           /* NULL: the operator's runtime image */
    char *handler;         /* "shop.so:handle_user_request"; NULL: an SQL function */
    char *sql;             /* NULL: a handler */
    char *result;          /* of sql: "Rows", "Row", "Value", "None"; NULL: not given */
    cJSON *parameters;     /* of sql: array as given, or NULL */
    cJSON *env, *env_from; /* arrays as given, or NULL */

    bool has_database;
    char *database_secret, *database_key;
    char *owner_secret, *owner_key; /* NULL: none */
    int database_pool_size;
    enum function_isolation database_isolation;
    bool database_pooler_transaction; /* a pooler in transaction mode is in between */
    bool database_retryable;

    int timeout_seconds, idle_timeout_seconds, hold_seconds, queue_depth, concurrency,
        drain_seconds; /* concurrency: its default filled in */
    int64_t body_bytes, response_bytes, hold_bytes;

    int replicas; /* pinned; -1: the autoscaler's */
    int min_replicas, max_replicas, initial_replicas, activation_replicas, target_utilization, idle_seconds,
        window_seconds, scale_down_delay_seconds;

    bool has_http;
    char **hosts; /* lower case; may hold "*.example.com" */
    size_t host_count;
    char *path;          /* "/" or "/orders", no final slash but for "/" */
    char *path_template; /* NULL: none */
    char **methods;      /* upper case; count 0: all */
    size_t method_count;
    int success_status;       /* 200 */
    char *ingress_class_name; /* "cicada" by default */
    char *tls_secret_name;    /* NULL: none */
    enum function_idempotency idempotency;

    struct function_trigger *triggers;
    size_t trigger_count;
    int event_concurrency; /* its default filled in */
    char *output_queue;    /* NULL: none */

    cJSON *template; /* spec.template as given, or NULL */
};

/* object: a Function as the API returns it. err (ERR_INVALID) says "spec.http.path: must begin with '/'": field path first. */
int function_spec_parse(const cJSON *object, struct function_spec **ret_spec, struct err *err) MUST_CHECK;
struct function_spec *function_spec_ref(struct function_spec *spec);
void function_spec_unref(struct function_spec *spec); /* NULL is fine */

#endif
