/* spec.h - what this runtime serves: the part of a Function's spec that the operator hands over, checked.
 *
 * Source: CICADA_SPEC, or the file CICADA_SPEC_FILE; the database's URL from DATABASE_URL or DATABASE_URL_FILE. Unknown
 * members are ignored, because an operator may be newer than the runtime it starts.
 */
#ifndef CICADA_HOST_SPEC_H
#define CICADA_HOST_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/postgres/postgres.h"
#include "runtime/sql/sql_plan.h"

#define SPEC_MAX_BYTES         (256u << 10)
#define SPEC_URL_MAX_BYTES     4096u
#define SPEC_HANDLER_MAX_BYTES 255
#define SPEC_CONCURRENCY_MAX   250
#define SPEC_SECONDS_MAX       86400
#define SPEC_BODY_MAX_BYTES    (1LL << 30)
#define SPEC_POOL_MAX          100
#define SPEC_SQL_MAX_BYTES     (64u << 10)
#define SPEC_PARAMETERS_MAX    64
#define SPEC_NAME_MAX_BYTES    63 /* of a parameter, a trigger, a queue */
#define SPEC_TRIGGERS_MAX      16
#define SPEC_ATTEMPTS_MAX      1000
#define SPEC_BATCH_MAX         1000

/* A queue whose events are run. */
struct spec_trigger {
    char *name;
    char *queue; /* NULL: that of a table or schedule trigger, cicada.trigger_queue() */
    bool ordered;
    int batch_size; /* most events of one invocation */
    int max_attempts;
    int64_t backoff_ms, max_backoff_ms;
};

enum idempotency { IDEMPOTENCY_NONE, IDEMPOTENCY_OPTIONAL, IDEMPOTENCY_REQUIRED };

/* A parameter of an SQL function that a request may leave out. */
struct spec_parameter {
    char *name;
    char *default_text; /* PostgreSQL's text form; NULL: SQL NULL */
};

struct function_spec {
    char *handler_file;   /* "shop.so"; NULL: an SQL function */
    char *handler_symbol; /* "handle_user_request" */
    char *sql;            /* the author's text; NULL: a handler */
    enum sql_result sql_result;
    struct spec_parameter *parameters;
    size_t parameter_count;
    int64_t timeout_ms;
    int64_t idle_timeout_ms; /* longest silence of an answer that is streamed */
    int64_t drain_ms;
    int concurrency;
    int64_t body_max_bytes;
    int64_t response_max_bytes;
    char *path_template; /* NULL: every path */
    int success_status;
    enum idempotency idempotency;
    bool has_database;
    int pool_size;
    enum pg_isolation isolation;
    bool pooler_transaction;       /* PgBouncer in transaction mode is in between */
    bool retryable;                /* run again after 40001 and 40P01 */
    struct spec_trigger *triggers; /* NULL: none */
    size_t trigger_count;
    int event_concurrency;
    char *output_queue; /* where answers go as events; NULL: nowhere */
};

/* Where text comes from: the value itself, or a file with it. Both may be NULL. */
struct spec_source {
    const char *value, *value_name; /* "CICADA_SPEC" */
    const char *file, *file_name;   /* "CICADA_SPEC_FILE" */
};

/* The text of `source`, without a final line break; the caller frees it. ERR_NOT_FOUND: neither is set. */
int spec_source_read(const struct spec_source *source, size_t max_bytes, char **ret_text,
                     struct err *err) MUST_CHECK;

/* On success release with spec_release(). Messages name the field: "limits.bodyBytes: must be ...". */
int spec_parse(const char *json, size_t len, struct function_spec *ret_spec, struct err *err) MUST_CHECK;
void spec_release(struct function_spec *spec);

#endif
