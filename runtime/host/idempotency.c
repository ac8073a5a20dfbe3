#include "runtime/host/idempotency.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"
#include "runtime/host/idempotency_key.h"
#include "runtime/host/output.h"

#define RETRY_AFTER_S    1
#define PURGE_TIMEOUT_MS 1000
#define STORED_MAX_BYTES (1u << 20) /* of a bytea in hexadecimal: body or headers */

#define PURGE_ROWS_TEXT_(rows) #rows
#define PURGE_ROWS_TEXT(rows)  PURGE_ROWS_TEXT_(rows)

static void refuse(struct invocation *invocation, int status, const char *code, const char *detail)
{
    struct problem problem = {.status = status, .code = code, .detail = detail, .component = "runtime"};

    response_set_problem(&invocation->response, &problem, status == 409 ? RETRY_AFTER_S : 0);
}

/* What names the event is what makes it the same: a sender may write its data differently each time. */
static bool use_event_key(struct invocation *invocation)
{
    char key[IDEMPOTENCY_KEY_MAX_BYTES + 1], fingerprint[IDEMPOTENCY_FINGERPRINT_SIZE];
    struct err err = ERR_INIT;

    if (idempotency_event_key(invocation->event, key, &err) != 0 ||
        idempotency_fingerprint(&invocation->request, /* with_body= */ false, fingerprint, &err) != 0) {
        log_error("%s", err.msg);
        refuse(invocation, 500, "idempotency_failed", NULL);
        return false;
    }
    invocation->idempotency_key = arena_strdup(&invocation->arena, key);
    invocation->fingerprint = arena_strdup(&invocation->arena, fingerprint);
    return true;
}

static bool read_key(struct invocation *invocation)
{
    char key[IDEMPOTENCY_KEY_MAX_BYTES + 1];
    struct err err;
    const char *value;

    err_clear(&err);
    if (idempotency_key_find(&invocation->request, &value, &err) != 0 ||
        (value != NULL && idempotency_key_parse(value, key, &err) != 0)) {
        refuse(invocation, 400, "idempotency_key_malformed", err.msg);
        return false;
    }
    if (value != NULL) {
        invocation->idempotency_key = arena_strdup(&invocation->arena, key);
    } else if (invocation->event != NULL) {
        return use_event_key(invocation);
    } else if (invocation->target->idempotency == IDEMPOTENCY_REQUIRED) {
        refuse(invocation, 400, "idempotency_key_required", "the header Idempotency-Key is missing");
        return false;
    }
    return true;
}

bool idempotency_read_key(struct invocation *invocation)
{
    if (invocation->target->idempotency == IDEMPOTENCY_NONE ||
        strcmp(invocation->request.method, "GET") == 0) /* HEAD is GET here */
        return true;
    return read_key(invocation);
}

/* ---- bytes in hexadecimal ---- */

static void append_hex(struct strbuf *out, const char *data, size_t len)
{
    char *hex = strbuf_reserve(out, 2 * len);

    if (hex == NULL) /* cannot be: all parts have limits */
        return;
    hex_encode(hex, data, len);
    strbuf_advance(out, 2 * len);
}

/* The bytes of a column that encode(..., 'hex') made, in the arena and with a NUL behind them. */
static char *column_bytes(struct arena *arena, const struct pg_result *result, int column, size_t *ret_len)
{
    size_t hex_len = 0;
    const char *hex = pg_result_value(result, 0, column, &hex_len);
    char *bytes = arena_alloc(arena, hex_len / 2 + 1);

    for (size_t i = 0; i < hex_len / 2; i++)
        bytes[i] = (char)(hex_digit_value(hex[2 * i]) << 4 | hex_digit_value(hex[2 * i + 1]));
    bytes[hex_len / 2] = '\0';
    *ret_len = hex_len / 2;
    return bytes;
}

/* ---- the record ---- */

static const char *function_key(struct invocation *invocation)
{
    char name[512];

    snprintf(name, sizeof(name), "%s/%s", invocation->target->namespace, invocation->target->name);
    return arena_strdup(&invocation->arena, name);
}

static int read_fingerprint(struct invocation *invocation)
{
    char fingerprint[IDEMPOTENCY_FINGERPRINT_SIZE];
    struct err err = ERR_INIT;

    if (invocation->fingerprint != NULL) /* of an attempt before, or the event's */
        return 0;
    if (idempotency_fingerprint(&invocation->request, /* with_body= */ true, fingerprint, &err) != 0) {
        log_error("%s", err.msg);
        return -1;
    }
    invocation->fingerprint = arena_strdup(&invocation->arena, fingerprint);
    return 0;
}

static void set_headers(struct cicada_response *response, char *lines)
{
    char *end;

    for (char *line = lines; *line != '\0'; line = end + 1) {
        char *colon = strstr(line, ": ");
        end = strchr(line, '\n');
        if (colon == NULL || end == NULL || end < colon) {
            response_mistake(response, "the stored headers are damaged");
            return;
        }
        *colon = *end = '\0';
        response_header(response, line, colon + 2);
    }
}

/* The stored answer, as it was given first. */
static void replay(struct invocation *invocation, const struct pg_result *record)
{
    struct cicada_response *response = &invocation->response;
    struct err err = ERR_INIT;
    int64_t status = 0;
    size_t len;
    char *body;

    (void)parse_int64(pg_result_value(record, 0, 1, NULL), 0, 599, &status);
    response_status(response, (int32_t)status);
    set_headers(response, column_bytes(&invocation->arena, record, 2, &len));
    body = column_bytes(&invocation->arena, record, 3, &len);
    response_body(response, body, len);
    response->replayed = true;
    if (response_check(response, &err) != 0) {
        log_error("stored answer refused: %s", err.msg);
        refuse(invocation, 500, "invalid_response", NULL);
    }
}

enum idempotency_outcome idempotency_begin(struct invocation *invocation)
{
    const char *params[3];
    struct pg_result *record;
    const char *outcome;

    if (read_fingerprint(invocation) != 0) {
        refuse(invocation, 500, "idempotency_failed", NULL);
        return IDEMPOTENCY_ANSWERED;
    }
    params[0] = function_key(invocation);
    params[1] = invocation->idempotency_key;
    params[2] = invocation->fingerprint;
    if (database_run(&invocation->database,
                     "SELECT outcome, answer_status, answer_headers, answer_body"
                     " FROM cicada.idempotency_begin($1, $2, $3)",
                     (int)ARRAY_SIZE(params), params, &record) != 0)
        return IDEMPOTENCY_FAILED;
    outcome = pg_result_value(record, 0, 0, NULL);
    if (strcmp(outcome, "new") == 0)
        return IDEMPOTENCY_NEW;
    if (strcmp(outcome, "stored") == 0)
        replay(invocation, record);
    else if (strcmp(outcome, "reused") == 0)
        refuse(invocation, 422, "idempotency_key_reused", "the key was used by another request");
    else
        refuse(invocation, 409, "idempotency_key_in_use", "a request with this key is at work");
    return IDEMPOTENCY_ANSWERED;
}

bool idempotency_can_store(struct invocation *invocation)
{
    size_t len;

    (void)response_bytes(&invocation->response, &len);
    if (len <= IDEMPOTENCY_BODY_MAX_BYTES)
        return true;
    log_error("answer refused: %zu bytes can't be stored for the Idempotency-Key", len);
    refuse(invocation, 500, "response_not_storable",
           "an answer to a request with Idempotency-Key has at most 256 KiB");
    return false;
}

static void append_line(struct strbuf *out, const char *name, const char *value)
{
    append_hex(out, name, strlen(name));
    append_hex(out, ": ", 2);
    append_hex(out, value, strlen(value));
    append_hex(out, "\n", 1);
}

static void print_headers(const struct cicada_response *response, struct strbuf *out)
{
    const char *content_type = response_content_type(response);

    strbuf_append_str(out, "\\x");
    if (content_type != NULL)
        append_line(out, "Content-Type", content_type);
    for (size_t i = 0; i < response->header_count; i++)
        append_line(out, response->headers[i].name, response->headers[i].value);
}

int idempotency_commit(struct invocation *invocation)
{
    const struct cicada_response *response = &invocation->response;
    CLEANUP_STRBUF struct strbuf headers;
    CLEANUP_STRBUF struct strbuf body;
    size_t len;
    const char *bytes = response_bytes(response, &len);
    char status[16];

    strbuf_init(&headers, STORED_MAX_BYTES);
    strbuf_init(&body, STORED_MAX_BYTES);
    print_headers(response, &headers);
    strbuf_append_str(&body, "\\x");
    append_hex(&body, bytes, len);
    snprintf(status, sizeof(status), "%d", response->status);
    const char *params[] = {function_key(invocation),
                            invocation->idempotency_key,
                            invocation->fingerprint,
                            status,
                            headers.buf,
                            body.buf};
    const struct output_company store = {"cicada.idempotency_store($1, $2, $3, $4, $5, $6)",
                                         (int)ARRAY_SIZE(params), params};
    if (output_end_with(invocation, &store) != 0)
        return -1;
    invocation->stored = true;
    return 0;
}

void idempotency_purge(struct pg_pool *pool)
{
    struct pg_transaction *tx =
        pg_transaction_new(pool, /* read_only= */ false, clock_monotonic_ms() + PURGE_TIMEOUT_MS);
    struct pg_error error;

    /* In the other levels it would fail, and fail others, for nothing. */
    pg_transaction_set_isolation(tx, PG_READ_COMMITTED);
    if (pg_query_commit(tx, "SELECT cicada.idempotency_purge(" PURGE_ROWS_TEXT(IDEMPOTENCY_PURGE_ROWS) ")", 0,
                        NULL, /* ret_result= */ NULL, &error) != 0)
        log_debug("expired answers stay for now: %s", error.message);
    pg_transaction_free(tx);
}
