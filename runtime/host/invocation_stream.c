#include "runtime/host/invocation_stream.h"

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/host/event_batch.h"
#include "runtime/host/output.h"

/* Written at once; each piece that the peer takes moves the deadline. */
#define PIECE_MAX_BYTES 65536
#define CUT_MARGIN_MS   100

/* An answer that is stored with its key, or sent on, is part of the transaction that it would come before. */
static bool is_stored_later(struct invocation *invocation, bool sent_on)
{
    if (invocation->idempotency_key != NULL || (sent_on && output_is_due(invocation)))
        invocation->not_storable = true;
    return invocation->not_storable;
}

/* An event is done with what the handler commits, whatever the handler says afterwards. */
static int commit(struct invocation *invocation)
{
    struct settlement *settlement = invocation->settlement;
    int rc;

    if (settlement == NULL)
        return database_commit(&invocation->database);
    if (invocation->settled)
        return 0;
    if (invocation->event_failed)
        return -1;
    if (invocation->database.shared != NULL && (invocation->database.failed || invocation->database.reading))
        return -1; /* what is undone must not be settled with the others */
    if (invocation->batch != NULL && event_batch_close(invocation->batch, &invocation->database) != 0)
        return -1;
    invocation_settle_events(invocation);
    if (settlement->count == 0)
        return -1;
    (void)settlement_write(settlement);
    rc = database_commit_with(&invocation->database, settlement_sql(settlement), SETTLEMENT_PARAMS,
                              settlement->params);
    invocation->settled = rc == 0;
    if (rc != 0 && invocation->database.shared == NULL)
        settlement_clear(settlement); /* it may be run again */
    return rc;
}

int invocation_commit(struct invocation *invocation)
{
    int rc;

    if (is_stored_later(invocation, /* sent_on= */ true) || invocation->streamed ||
        !invocation_enter(invocation, INVOCATION_RUNNING, INVOCATION_ENDING))
        return -1;
    rc = commit(invocation);
    if (!invocation_enter(invocation, INVOCATION_ENDING, INVOCATION_RUNNING))
        return -1; /* the end of it came too late, and was answered for */
    return rc;
}

/* Silence is counted from here. What waits for the peer or for the database gives up by itself before the watchdog cuts. */
static void prolong(struct invocation *invocation)
{
    int64_t deadline_ms = clock_monotonic_ms() + invocation->target->idle_timeout_ms;

    database_prolong(&invocation->database, deadline_ms);
    atomic_store(&invocation->due_ms, deadline_ms + CUT_MARGIN_MS);
}

/* The transaction of a handler that may write ends before its answer begins. */
static int end_transaction(struct invocation *invocation)
{
    struct database *database = &invocation->database;

    if (database->failed || invocation->request.json_malformed)
        return -1;
    if (database->read_only)
        return 0;
    if (invocation->response.status < 400)
        return database_commit(database);
    database_roll_back(database);
    return 0;
}

/* Whether the answer that now begins would be. */
static bool is_sent_on(const struct invocation *invocation)
{
    return invocation->response.status < 400;
}

/* False: there was a mistake, and the answer has not begun; settle() tells. */
static bool response_may_begin(const struct cicada_response *response)
{
    return response->mistake[0] == '\0' && !strbuf_failed(&response->body);
}

static int begin(struct invocation *invocation)
{
    struct err err = ERR_INIT;

    if (is_stored_later(invocation, is_sent_on(invocation)) || !response_may_begin(&invocation->response) ||
        !invocation_enter(invocation, INVOCATION_RUNNING, INVOCATION_ENDING))
        return -1;
    if (end_transaction(invocation) != 0) {
        (void)invocation_enter(invocation, INVOCATION_ENDING, INVOCATION_RUNNING);
        return -1;
    }
    prolong(invocation);
    if (!invocation_enter(invocation, INVOCATION_ENDING, INVOCATION_STREAMING))
        return -1;
    invocation->streamed = true;
    http_request_stream_timeout(invocation->http, invocation->target->idle_timeout_ms);
    if (response_stream_begin(&invocation->response, invocation->http, &err) == 0)
        return 0;
    invocation->stream_failure = "the peer is gone";
    return -1;
}

static int send_pieces(struct invocation *invocation, const char *data, size_t len)
{
    struct err err = ERR_INIT;

    while (len > 0) {
        size_t piece = len < PIECE_MAX_BYTES ? len : PIECE_MAX_BYTES;

        prolong(invocation);
        if (http_request_stream_chunk(invocation->http, data, piece, &err) != 0) {
            invocation->stream_failure = "the peer is gone, or did not read for too long";
            return -1;
        }
        data += piece;
        len -= piece;
    }
    prolong(invocation);
    return 0;
}

static int send_written(struct invocation *invocation)
{
    struct cicada_response *response = &invocation->response;
    size_t len;
    const char *bytes = response_bytes(response, &len);

    if (!response_may_begin(response)) {
        invocation->stream_failure = response->mistake[0] ? response->mistake : "a piece is too large";
        return -1;
    }
    if (send_pieces(invocation, bytes, len) != 0)
        return -1;
    response_drop_bytes(response);
    return 0;
}

int invocation_stream(struct invocation *invocation, const void *data, size_t len)
{
    if (invocation->http ==
        NULL) { /* of an event: nobody reads it, and its transaction ends with the handler */
        response_drop_bytes(&invocation->response);
        return is_stored_later(invocation, is_sent_on(invocation)) ? -1 : 0;
    }
    if ((!invocation->streamed && begin(invocation) != 0) || invocation->stream_failure != NULL)
        return -1;
    if (atomic_load(&invocation->state) != INVOCATION_STREAMING) {
        invocation->stream_failure = "it was silent for too long";
        return -1;
    }
    return send_written(invocation) == 0 ? send_pieces(invocation, data, len) : -1;
}

/* NULL: all of it was sent but the end. Else why not. */
static const char *finish(struct invocation *invocation, int handler_result)
{
    struct database *database = &invocation->database;

    if (!invocation_enter(invocation, INVOCATION_STREAMING, INVOCATION_STREAMED))
        return "it was silent for too long";
    if (invocation->stream_failure != NULL)
        return invocation->stream_failure;
    if (database->failed)
        return database->error.message;
    if (handler_result != CICADA_OK)
        return "the handler failed";
    if (invocation->response.depth > 0)
        return "JSON: not all objects and arrays were ended";
    if (send_written(invocation) != 0)
        return invocation->stream_failure;
    return database_end(database, /* commit= */ true) == 0 ? NULL : database->error.message;
}

void invocation_stream_end(struct invocation *invocation, int handler_result)
{
    const char *failure = finish(invocation, handler_result);
    struct err err = ERR_INIT;

    if (failure == NULL && http_request_stream_end(invocation->http, &err) != 0)
        failure = err.msg;
    if (failure != NULL) {
        log_warn("the answer was cut: %s", failure);
        http_request_abort(invocation->http);
    }
    (void)database_end(&invocation->database, /* commit= */ false);
}
