/* spec.h - what this runtime serves: the part of a Function's spec that the operator hands over, checked.
 *
 * Source: CICADA_SPEC, or the file CICADA_SPEC_FILE; the database's URL from DATABASE_URL or DATABASE_URL_FILE. Unknown
 * members are ignored, because an operator may be newer than the runtime it starts.
 */
#ifndef CICADA_HOST_SPEC_H
#define CICADA_HOST_SPEC_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/postgres/postgres.h"

#define SPEC_MAX_BYTES         (256u << 10)
#define SPEC_URL_MAX_BYTES     4096u
#define SPEC_HANDLER_MAX_BYTES 255
#define SPEC_CONCURRENCY_MAX   250
#define SPEC_SECONDS_MAX       86400
#define SPEC_BODY_MAX_BYTES    (1LL << 30)
#define SPEC_POOL_MAX          100

struct function_spec {
    char *handler_file;   /* "shop.so" */
    char *handler_symbol; /* "handle_user_request" */
    int64_t timeout_ms;
    int64_t drain_ms;
    int concurrency;
    int64_t body_max_bytes;
    int64_t response_max_bytes;
    char *path_template; /* NULL: every path */
    int success_status;
    bool has_database;
    int pool_size;
    enum pg_isolation isolation;
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
