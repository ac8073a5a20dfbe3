#include "runtime/host/invocation.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/host/event_batch.h"
#include "runtime/host/idempotency.h"
#include "runtime/host/invocation_stream.h"
#include "runtime/host/output.h"

#define RETRY_AFTER_S          1
#define DATABASE_MARGIN_MAX_MS 250
#define RETRY_PAUSE_MIN_MS     2 /* doubled with each attempt, and jittered */

/* The database gives up a little before the invocation does: then its own answer (503, 504) can still be given, which
 * says more than that the function is late. */
static int64_t database_deadline_ms(int64_t deadline_ms, int64_t timeout_ms)
{
    int64_t margin_ms = timeout_ms / 20;

    return deadline_ms - (margin_ms < DATABASE_MARGIN_MAX_MS ? margin_ms : DATABASE_MARGIN_MAX_MS);
}

/* All but the room for a message, which takes more time to clear than the rest. */
static void init_context(struct invocation *invocation)
{
    struct cicada_context *context = &invocation->context;

    memset(context, 0, offsetof(struct cicada_context, last_error));
    context->last_error[0] = '\0';
    context->calls = &sdk_calls;
    context->function = invocation->target->name;
    context->namespace = invocation->target->namespace;
    context->request_id = invocation->request_id;
    context->traceparent = "";
    context->deadline_ms = invocation->deadline_ms;
    context->database = &invocation->database;
    context->invocation = invocation;
}

void invocation_init(struct invocation *invocation, const struct invocation_target *target,
                     struct http_request *http, const char *request_id, int64_t start_us, int64_t timeout_ms)
{
    int64_t deadline_ms = start_us / 1000 + timeout_ms;
    size_t id_len = request_id != NULL ? request_id_len(request_id) : 0;

    invocation->target = target;
    invocation->http = http;
    invocation->lane = 0;
    invocation->start_us = start_us;
    invocation->deadline_ms = deadline_ms;
    invocation->waited_us = 0;
    invocation->event = NULL;
    invocation->batch = NULL;
    invocation->lease = NULL;
    invocation->kept = invocation->belongs_alone = invocation->event_taken = invocation->event_failed = false;
    invocation->idempotency_key = invocation->fingerprint = invocation->output = NULL;
    invocation->invoked = invocation->answered = invocation->stored = invocation->not_storable = false;
    invocation->streamed = invocation->settled = invocation->by_database = false;
    invocation->settlement = NULL;
    invocation->stream_failure = NULL;
    atomic_init(&invocation->due_ms, deadline_ms);
    invocation->retries = 0;
    request_clear(&invocation->request);
    atomic_init(&invocation->state, INVOCATION_RUNNING);
    arena_init_with(&invocation->arena, invocation->storage, sizeof(invocation->storage));
    if (id_len > 0)
        memcpy(invocation->request_id, request_id, id_len + 1);
    else
        random_hex(invocation->request_id, 16);
    database_init(&invocation->database, target->pool, &invocation->arena,
                  database_deadline_ms(deadline_ms, timeout_ms));
    response_init(&invocation->response, &sdk_calls, &invocation->arena, invocation->request_id,
                  target->success_status, target->response_max_bytes);
    init_context(invocation);
    invocation->response.invocation = invocation;
}

void invocation_trace(struct invocation *invocation, struct trace_ids *ids, const char *parent)
{
    trace_context_begin(&invocation->trace, ids, parent);
    invocation->context.traceparent = invocation->trace.traceparent;
}

void invocation_set_log_scope(const struct invocation *invocation, const char *object)
{
    log_scope_set(object, invocation->request_id);
    log_scope_set_trace(invocation->trace.trace_id);
}

void invocation_release(struct invocation *invocation)
{
    (void)database_end(&invocation->database, /* commit= */ false);
    database_release(&invocation->database);
    response_release(&invocation->response);
    request_release(&invocation->request);
    arena_release(&invocation->arena);
}

static void answer_problem(struct invocation *invocation, int status, const char *code, const char *detail)
{
    struct problem problem = {.status = status, .code = code, .detail = detail, .component = "runtime"};

    response_set_problem(&invocation->response, &problem, status == 503 ? RETRY_AFTER_S : 0);
}

static void answer_database_error(struct invocation *invocation)
{
    const struct pg_error *error = &invocation->database.error;
    int status = pg_error_http_status(error);
    bool is_meant_for_callers = strcmp(pg_error_code(error), "raised_status") == 0;

    invocation->by_database = !is_meant_for_callers;
    log_write(status >= 500 ? LOG_WARN : LOG_INFO, "database: %s%s%s: %s", pg_error_code(error),
              error->sqlstate[0] ? " " : "", error->sqlstate, error->message);
    /* Who raises an HTTP status writes the message for callers; any other would tell internals. */
    answer_problem(invocation, status, pg_error_code(error), is_meant_for_callers ? error->message : NULL);
}

/* Of the one event, by the handler's word. */
static void answer_event_failure(struct invocation *invocation)
{
    if (invocation->event_status == 0 && invocation->database.failed)
        answer_database_error(invocation);
    else
        answer_problem(invocation, invocation->event_status != 0 ? invocation->event_status : 500,
                       "event_failed", invocation->event_failure);
}

static void answer_not_storable(struct invocation *invocation)
{
    bool stored = invocation->idempotency_key != NULL;

    log_error("answer refused: it can't be %s, because the handler commits or streams by itself",
              stored ? "stored" : "sent to the function's output");
    if (stored)
        answer_problem(invocation, 500, "response_not_storable",
                       "a request with Idempotency-Key can't be answered by a handler that commits or "
                       "streams by itself");
    else
        answer_problem(invocation, 500, "output_not_storable",
                       "the answer of a handler that commits or streams by itself can't be sent to the "
                       "function's output");
}

/* True if what the handler left is an answer to be committed; else the response holds the reason why not. */
static bool settle(struct invocation *invocation, int handler_result)
{
    struct cicada_response *response = &invocation->response;
    struct err err;

    err_clear(&err);
    if (invocation->answered)
        return false;
    if (invocation->request.json_malformed) {
        answer_problem(invocation, 400, "malformed_json", invocation->request.json_error.msg);
        return false;
    }
    if (invocation->not_storable) {
        answer_not_storable(invocation);
        return false;
    }
    if (invocation->database
            .commit_failed) { /* by the handler's own commit: the answer follows the database */
        answer_database_error(invocation);
        return false;
    }
    if (invocation->event_failed) {
        answer_event_failure(invocation);
        return false;
    }
    if (handler_result != CICADA_OK && response->status < 400) {
        if (invocation->database.failed || invocation->database.called_late)
            answer_database_error(invocation);
        else
            answer_problem(invocation, 500, "handler_failed", "the handler failed without saying why");
        return false;
    }
    if (response_check(response, &err) != 0) {
        log_error("answer refused: %s", err.msg);
        if (err.code == ERR_TOO_LARGE)
            answer_problem(invocation, 500, "result_too_large", err.msg);
        else
            answer_problem(invocation, 500, "invalid_response", NULL);
        return false;
    }
    if (handler_result != CICADA_OK || response->status >= 400)
        return false;
    if (invocation->database.failed) { /* it speaks of success, and nothing of it can be committed */
        log_error("success after a failed query: %s", invocation->database.error.message);
        answer_problem(invocation, 500, "transaction_failed", NULL);
        return false;
    }
    return output_take(invocation) &&
           (invocation->idempotency_key == NULL || idempotency_can_store(invocation));
}

bool invocation_enter(struct invocation *invocation, enum invocation_state from, enum invocation_state to)
{
    return atomic_compare_exchange_strong(&invocation->state, &from, to);
}

bool invocation_begin_end(struct invocation *invocation)
{
    return invocation_enter(invocation, INVOCATION_RUNNING, INVOCATION_ENDING) ||
           atomic_load(&invocation->state) == INVOCATION_ENDING;
}

/* JSON is parsed within the admission, and not where the request is read: a document takes many times the memory of its
 * text, and only so many invocations are at work at once. */
static int invoke(struct invocation *invocation)
{
    const struct invocation_target *target = invocation->target;
    bool reads = target->ops->reads_only(target->invoker, invocation);
    /* What the runtime itself writes at the end: the handler reads all the same. */
    bool read_only = reads && invocation->settlement == NULL && !output_is_due(invocation);
    struct err err;

    err_clear(&err);
    if (request_parse_declared_json(&invocation->request, &err) != 0)
        return CICADA_FAIL; /* settle() tells the caller */
    invocation->event_taken = invocation->event_failed = false;
    if (invocation->batch != NULL)
        event_batch_reset(invocation->batch);
    database_begin(&invocation->database, read_only);
    if (read_only) /* it has no effect that must not be had twice */
        invocation->idempotency_key = NULL;
    if (invocation->idempotency_key != NULL) {
        enum idempotency_outcome outcome = idempotency_begin(invocation);
        invocation->answered = outcome == IDEMPOTENCY_ANSWERED;
        if (outcome != IDEMPOTENCY_NEW)
            return outcome == IDEMPOTENCY_ANSWERED ? CICADA_OK : CICADA_FAIL;
    }
    if (reads && !read_only)
        database_read_within(&invocation->database);
    invocation->invoked = true;
    return target->ops->invoke(target->invoker, invocation);
}

/* A statement was out of date, after DDL by others, and what the handler has done since is gone with the transaction. The transaction's
 * first one is run again by pg_query(); with a key that is not the handler's first. */
static bool is_stale(const struct invocation *invocation)
{
    bool is_first = invocation->idempotency_key != NULL && invocation->database.runs == 2;

    return invocation->database.error.stale &&
           (is_first || invocation->target->retryable || invocation->target->ops->repeatable);
}

/* True if the transaction fell victim to others, and the same invocation may well succeed once they are done. */
static bool is_worth_another(const struct invocation *invocation)
{
    const char *sqlstate = invocation->database.error.sqlstate;

    if (!invocation->database.failed || invocation->retries + 1 >= INVOCATION_ATTEMPTS_MAX)
        return false;
    if (strcmp(sqlstate, "40001") == 0 || strcmp(sqlstate, "40P01") == 0)
        return invocation->target->retryable || !invocation->invoked;
    if (invocation->database.shared != NULL)
        return invocation->database.error.stale;
    return is_stale(invocation);
}

/* Gives the others time. False: there is none, or the invocation was given up. */
static bool pause_before_retry(const struct invocation *invocation)
{
    int64_t longest_ms = (int64_t)RETRY_PAUSE_MIN_MS << invocation->retries;
    int64_t pause_ms = 1 + (int64_t)(random_u64() % (uint64_t)longest_ms);
    struct timespec pause = {pause_ms / 1000, (long)(pause_ms % 1000) * 1000000L};

    if (clock_monotonic_ms() + pause_ms >= invocation->deadline_ms)
        return false;
    (void)nanosleep(&pause, NULL);
    return atomic_load(&invocation->state) == INVOCATION_RUNNING;
}

void invocation_settle_events(struct invocation *invocation)
{
    if (invocation->batch != NULL)
        event_batch_settle(invocation->batch, invocation->settlement);
    else
        settlement_add(invocation->settlement, invocation->lease);
}

/* Whose owner commits. */
static int keep_in_shared(struct invocation *invocation)
{
    if (database_read_no_more(&invocation->database) != 0 || output_send(invocation) != 0 ||
        database_end(&invocation->database, /* commit= */ true) != 0)
        return -1;
    invocation_settle_events(invocation);
    invocation->kept = true;
    return 0;
}

/* The event is done, in the same transaction. */
static int commit_settlement(struct invocation *invocation)
{
    struct settlement *settlement = invocation->settlement;
    struct output_company settle = {.param_count = SETTLEMENT_PARAMS};

    if (invocation->settled) /* with the handler's own commit */
        return 0;
    if (invocation->database.shared != NULL)
        return keep_in_shared(invocation);
    invocation_settle_events(invocation);
    if (settlement->count == 0) { /* of a batch, each has failed */
        invocation->settled = true;
        return database_end(&invocation->database, /* commit= */ false);
    }
    settle.call = settlement_write(settlement);
    settle.params = settlement->params;
    if (output_end_with(invocation, &settle) != 0) {
        settlement_clear(settlement); /* it may be run again */
        return -1;
    }
    invocation->settled = true;
    return 0;
}

static int commit(struct invocation *invocation)
{
    if (invocation->settlement != NULL)
        return commit_settlement(invocation);
    if (invocation->idempotency_key == NULL)
        return output_end_with(invocation, /* company= */ NULL);
    return idempotency_commit(invocation);
}

/* In a transaction that others share it would keep them waiting. */
static bool leave_shared(struct invocation *invocation)
{
    if (invocation->database.shared == NULL)
        return false;
    invocation->belongs_alone = invocation_begin_end(invocation);
    return invocation->belongs_alone;
}

/* One attempt. True: another is due, and the transaction is over. */
static bool attempt(struct invocation *invocation)
{
    int result = invoke(invocation);

    if (invocation->streamed) {
        invocation_stream_end(invocation, result);
        return false;
    }
    if (invocation->batch != NULL && result == CICADA_OK && invocation->response.status < 400)
        (void)event_batch_close(invocation->batch, &invocation->database);
    if (is_worth_another(invocation)) {
        if (leave_shared(invocation))
            return false;
        (void)database_end(&invocation->database, /* commit= */ false);
        (void)invocation_enter(invocation, INVOCATION_ENDING, INVOCATION_RUNNING);
        return true;
    }
    if (!invocation_begin_end(invocation)) {
        (void)database_end(&invocation->database, /* commit= */ false);
        return false;
    }
    if (!settle(invocation, result)) {
        (void)database_end(&invocation->database, /* commit= */ false);
        return false;
    }
    if (commit(invocation) == 0)
        return false;
    if (is_worth_another(invocation)) /* nothing of it was committed */
        return !leave_shared(invocation) &&
               invocation_enter(invocation, INVOCATION_ENDING, INVOCATION_RUNNING);
    if (!output_answer_refusal(invocation))
        answer_database_error(invocation);
    return false;
}

void invocation_run(struct invocation *invocation)
{
    while (attempt(invocation)) {
        if (!pause_before_retry(invocation)) {
            if (invocation_enter(invocation, INVOCATION_RUNNING, INVOCATION_ENDING))
                answer_database_error(invocation);
            return;
        }
        invocation->retries++;
        invocation->invoked = false;
        invocation->not_storable = false;
        log_debug("attempt %d after %s", invocation->retries + 1, invocation->database.error.sqlstate);
        response_reset(&invocation->response, invocation->target->success_status);
    }
}

int64_t invocation_due_ms(const struct invocation *invocation, int64_t now_ms, int64_t grace_ms)
{
    int64_t due_ms = atomic_load(&invocation->due_ms);

    switch (atomic_load(&invocation->state)) {
    case INVOCATION_RUNNING:
    case INVOCATION_STREAMING:
        return due_ms;
    case INVOCATION_ENDING: /* another attempt may make it RUNNING again, which tells nobody */
        return now_ms < due_ms ? due_ms : due_ms + grace_ms;
    default:
        return DEADLINE_NONE;
    }
}

bool invocation_give_up(struct invocation *invocation, int64_t now_ms, int64_t grace_ms)
{
    int64_t due_ms = atomic_load(&invocation->due_ms);

    return (now_ms >= due_ms && (invocation_enter(invocation, INVOCATION_RUNNING, INVOCATION_GIVEN_UP) ||
                                 invocation_enter(invocation, INVOCATION_STREAMING, INVOCATION_CUT))) ||
           (now_ms >= due_ms + grace_ms &&
            invocation_enter(invocation, INVOCATION_ENDING, INVOCATION_UNCONFIRMED));
}
