#include "runtime/host/output.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/json_reader.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

#define ENQUEUE      "cicada.enqueue($%d, $%d::jsonb)"
#define SQL_SIZE     256
#define DEPTH_SIZE   16
#define DETAIL_BYTES 256

int output_declare(struct pg_pool *pool, const char *queue, int64_t deadline_ms, struct pg_error *error)
{
    struct pg_transaction *tx = pg_transaction_new(pool, /* read_only= */ false, deadline_ms);
    int rc;

    pg_transaction_set_isolation(
        tx, PG_READ_COMMITTED); /* in the others it could fail for who makes it meanwhile */
    rc = pg_query_commit(tx, "SELECT cicada.create_queue($1)", 1, &queue, /* ret_result= */ NULL, error);
    pg_transaction_free(tx);
    return rc;
}

bool output_is_due(const struct invocation *invocation)
{
    return invocation->target->output_queue != NULL &&
           strcmp(invocation->request.method, "GET") != 0; /* HEAD is GET here */
}

/* ---- what events of this invocation inherit ---- */

/* An event's own trace is that of where it began, and the request's that of its last hop. */
static const char *trace_of(const struct invocation *invocation)
{
    const char *own = cloud_event_attribute(invocation->event, "traceparent");
    char traceparent[TRACEPARENT_SIZE];

    if (own == NULL || !trace_context_read(own, traceparent))
        return invocation->trace.traceparent;
    return arena_strdup(invocation->database.arena, traceparent);
}

int output_begin(struct invocation *invocation, struct err *err)
{
    const char *depth = cloud_event_attribute(invocation->event, OUTPUT_DEPTH_ATTRIBUTE);
    int64_t number = 0;
    char text[DEPTH_SIZE];
    struct pg_setting *settings;

    if (depth == NULL && !output_is_due(invocation)) /* it costs every transaction something */
        return 0;
    if (depth != NULL && !parse_int64(depth, 0, OUTPUT_DEPTH_MAX, &number))
        return err_set(err, ERR_INVALID,
                       "the event's attribute \"" OUTPUT_DEPTH_ATTRIBUTE "\" is no number from 0 to %d",
                       OUTPUT_DEPTH_MAX);
    snprintf(text, sizeof(text), "%" PRId64, number);
    settings = arena_alloc(&invocation->arena, 2 * sizeof(*settings));
    settings[0] = (struct pg_setting){"cicada.depth", arena_strdup(&invocation->arena, text)};
    settings[1] = (struct pg_setting){"cicada.traceparent", trace_of(invocation)};
    invocation->database.settings = settings;
    invocation->database.setting_count = 2;
    return 0;
}

/* ---- the payload ---- */

static void refuse(struct invocation *invocation, const char *why)
{
    char detail[DETAIL_BYTES];
    struct problem problem = {500, "output_not_storable", detail, "runtime"};

    snprintf(detail, sizeof(detail), "the answer can't be sent to the function's output: %s", why);
    log_error("%s", detail);
    response_set_problem(&invocation->response, &problem, /* retry_after_s= */ 0);
}

static bool is_nothing(const struct json_node *node)
{
    return json_node_type(node) == JSON_NULL ||
           (json_node_type(node) == JSON_ARRAY && json_node_count(node) == 0);
}

static int read_body(const struct cicada_response *response, const char *body, size_t len, bool *ret_nothing,
                     struct err *err)
{
    struct json_doc *doc = NULL;

    if (response->content_type != NULL && request_body_kind(response->content_type, body, len) != BODY_JSON)
        return err_set(err, ERR_INVALID, "it is declared as something else than JSON");
    if (json_reader_parse(body, len, REQUEST_JSON_DEPTH_MAX, &doc, err) != 0)
        return err_wrap(err, "it is not JSON");
    *ret_nothing = is_nothing(json_doc_root(doc));
    json_doc_free(doc);
    return 0;
}

static bool take_body(struct invocation *invocation)
{
    struct err err = ERR_INIT;
    size_t len;
    const char *body = response_bytes(&invocation->response, &len);
    bool nothing = false;

    if (len == 0)
        return true;
    if (len > OUTPUT_MAX_BYTES) {
        refuse(invocation, "it is larger than 256 KiB");
        return false;
    }
    if (read_body(&invocation->response, body, len, &nothing, &err) != 0) {
        refuse(invocation, err.msg);
        return false;
    }
    if (!nothing) /* a body that was handed over need not end in NUL */
        invocation->output =
            invocation->response.taken.data != NULL ? arena_strndup(&invocation->arena, body, len) : body;
    return true;
}

/* Most functions have no output: these go on at once. */
bool output_take(struct invocation *invocation)
{
    invocation->output = NULL;
    return !output_is_due(invocation) || take_body(invocation);
}

/* ---- in the transaction ---- */

int output_end_with(struct invocation *invocation, const struct output_company *company)
{
    const char *params[OUTPUT_COMPANY_MAX + 2];
    char sql[SQL_SIZE];
    int count = company != NULL ? company->param_count : 0;

    if (invocation->output == NULL && company == NULL)
        return database_end(&invocation->database, /* commit= */ true);
    if (company != NULL)
        memcpy(params, company->params, (size_t)count * sizeof(*params));
    if (invocation->output == NULL) {
        snprintf(sql, sizeof(sql), "SELECT %s", company->call);
    } else {
        snprintf(sql, sizeof(sql), "SELECT " ENQUEUE "%s%s", count + 1, count + 2, company ? ", " : "",
                 company ? company->call : "");
        params[count++] = invocation->target->output_queue;
        params[count++] = invocation->output;
    }
    return database_end_with(&invocation->database, sql, count, params);
}

int output_send(struct invocation *invocation)
{
    const char *params[] = {invocation->target->output_queue, invocation->output};
    struct pg_result *result;

    if (invocation->output == NULL)
        return 0;
    return database_run(&invocation->database, "SELECT cicada.enqueue($1, $2::jsonb)", 2, params, &result);
}

/* Numbers that no numeric holds, and what is too large as PostgreSQL writes it. The message of class 22 has no value. */
bool output_answer_refusal(struct invocation *invocation)
{
    const struct pg_error *error = &invocation->database.error;

    if (invocation->output == NULL || error->failure != PG_FAILURE_SQL || error->at_commit ||
        (!str_starts_with(error->sqlstate, "22") && strcmp(error->sqlstate, "54000") != 0))
        return false;
    refuse(invocation, error->message);
    return true;
}
