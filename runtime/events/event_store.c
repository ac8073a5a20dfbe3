#include "runtime/events/event_store.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"
#include "runtime/postgres/pg_array.h"

/* A claim waits while somebody purges the queue or changes its order; a session that is silent for longer is given up. */
#define CALL_TIMEOUT_MS 10000
#define NUMBER_SIZE     24
#define ARRAY_MAX_BYTES (EVENT_STORE_LEASES_MAX * NUMBER_SIZE)

void event_free(struct event *event)
{
    if (event == NULL)
        return;
    free(event->text);
    free(event);
}

/* ---- one call ---- */

static int call(struct pg_session *session, const char *sql, int param_count, const char *const *params,
                struct pg_result **ret_result, struct pg_error *error)
{
    const struct pg_command command = {.sql = sql, .param_count = param_count, .params = params};

    return pg_session_run(session, &command, 1, clock_monotonic_ms() + CALL_TIMEOUT_MS, ret_result, error);
}

static const char *interval_text(char text[NUMBER_SIZE + 16], int64_t time_ms)
{
    snprintf(text, NUMBER_SIZE + 16, "%" PRId64 " milliseconds", time_ms);
    return text;
}

/* ---- the calls ---- */

int event_store_listen(struct pg_session *session, struct pg_error *error)
{
    return call(session, "LISTEN cicada_wake", 0, NULL, NULL, error);
}

int event_store_consume(struct pg_session *session, const char *queue, const struct event_consumer *consumer,
                        bool ordered, int *ret_queue_id, char ret_holder[EVENT_STORE_HOLDER_SIZE],
                        struct pg_error *error)
{
    static const char of_trigger[] = "SELECT queue_id, held_by FROM cicada.queue_consume("
                                     "cicada.trigger_queue($1, $2, $3), $1, $2, $3, $4)";
    static const char of_queue[] = "SELECT queue_id, held_by FROM cicada.queue_consume($5, $1, $2, $3, $4)";
    const char *const params[] = {consumer->namespace, consumer->function, consumer->trigger,
                                  ordered ? "t" : "f", queue};
    CLEANUP_PG_RESULT struct pg_result *result = NULL;

    if (call(session, queue != NULL ? of_queue : of_trigger, queue != NULL ? 5 : 4, params, &result, error) !=
        0)
        return -1;
    *ret_queue_id = (int)pg_result_int64(result, 0, 0);
    snprintf(ret_holder, EVENT_STORE_HOLDER_SIZE, "%s", pg_result_text(result, 0, 1));
    return 0;
}

/* The columns of a claim. */
enum {
    CLAIM_SLOT,
    CLAIM_ID,
    CLAIM_EPOCH,
    CLAIM_ATTEMPT,
    CLAIM_DEPTH,
    CLAIM_ALONE,
    CLAIM_ALONE_WAITS,
    CLAIM_TEXTS, /* the first of: source, type, subject, time, headers, traceparent, payload */
    CLAIM_PAYLOAD = CLAIM_TEXTS + 6,
    CLAIM_COLUMNS,
};

/* Copies the texts of a row into one block. */
static void take_texts(struct event *event, const struct pg_result *result, int row)
{
    const char **members[CLAIM_COLUMNS - CLAIM_TEXTS] = {
        &event->source,  &event->type,        &event->subject, &event->time,
        &event->headers, &event->traceparent, &event->payload,
    };
    size_t total = 0, len;
    char *at;

    for (int column = CLAIM_TEXTS; column < CLAIM_COLUMNS; column++) {
        (void)pg_result_value(result, row, column, &len);
        total += len + 1;
    }
    event->text = at = xmalloc(total);
    for (int column = CLAIM_TEXTS; column < CLAIM_COLUMNS; column++) {
        const char *value = pg_result_value(result, row, column, &len);
        if (pg_result_is_null(result, row, column))
            continue;
        memcpy(at, value, len);
        at[len] = '\0';
        *members[column - CLAIM_TEXTS] = at;
        at += len + 1;
        if (column == CLAIM_PAYLOAD)
            event->payload_len = len;
    }
}

static struct event *take_event(const struct pg_result *result, int row)
{
    struct event *event = xcalloc(1, sizeof(*event));

    event->lease.slot = (int)pg_result_int64(result, row, CLAIM_SLOT);
    event->lease.id = pg_result_int64(result, row, CLAIM_ID);
    event->lease.epoch = (int)pg_result_int64(result, row, CLAIM_EPOCH);
    event->attempt = (int)pg_result_int64(result, row, CLAIM_ATTEMPT);
    event->depth = (int)pg_result_int64(result, row, CLAIM_DEPTH);
    event->alone = pg_result_bool(result, row, CLAIM_ALONE);
    take_texts(event, result, row);
    return event;
}

int event_store_claim(struct pg_session *session, const struct event_claim *claim, struct event **ret_events,
                      bool *ret_alone_waits, struct pg_error *error)
{
    static const char sql[] =
        "SELECT slot, id, epoch, attempt, depth, alone, alone_waits, source, type, subject,"
        " to_char(time AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), headers, traceparent, "
        "payload"
        " FROM cicada.event_claim($1, $2, $3, $4)";
    char queue[NUMBER_SIZE], most[NUMBER_SIZE], lease[NUMBER_SIZE + 16];
    const char *const params[] = {queue, most, interval_text(lease, claim->lease_ms),
                                  claim->idle ? "t" : "f"};
    CLEANUP_PG_RESULT struct pg_result *result = NULL;
    int found = 0;

    snprintf(queue, sizeof(queue), "%d", claim->queue_id);
    snprintf(most, sizeof(most), "%d", claim->most);
    *ret_alone_waits = false;
    if (call(session, sql, (int)ARRAY_SIZE(params), params, &result, error) != 0)
        return -1;
    for (int row = 0; row < pg_result_rows(result); row++) {
        *ret_alone_waits = *ret_alone_waits || pg_result_bool(result, row, CLAIM_ALONE_WAITS);
        if (!pg_result_is_null(result, row, CLAIM_ID) && found < claim->most)
            ret_events[found++] = take_event(result, row);
    }
    return found;
}

/* sql takes slots, ids and epochs, and returns the ids of those that are lost. ret_lost NULL: nobody wants them. */
static int change_leases(struct pg_session *session, const char *sql, const struct event_lease *leases,
                         size_t count, const char *interval, int64_t *ret_lost, struct pg_error *error)
{
    CLEANUP_STRBUF struct strbuf slots;
    CLEANUP_STRBUF struct strbuf ids;
    CLEANUP_STRBUF struct strbuf epochs;
    CLEANUP_PG_RESULT struct pg_result *result = NULL;
    int rows;

    strbuf_init(&slots, ARRAY_MAX_BYTES);
    strbuf_init(&ids, ARRAY_MAX_BYTES);
    strbuf_init(&epochs, ARRAY_MAX_BYTES);
    for (size_t i = 0; i < count; i++) {
        pg_array_add_number(&slots, leases[i].slot);
        pg_array_add_number(&ids, leases[i].id);
        pg_array_add_number(&epochs, leases[i].epoch);
    }
    const char *const params[] = {pg_array_end(&slots), pg_array_end(&ids), pg_array_end(&epochs), interval};
    if (call(session, sql, interval != NULL ? 4 : 3, params, &result, error) != 0)
        return -1;
    rows = pg_result_rows(result);
    for (int row = 0; ret_lost != NULL && row < rows && (size_t)row < count; row++)
        ret_lost[row] = pg_result_int64(result, row, 0);
    return rows;
}

int event_store_extend(struct pg_session *session, const struct event_lease *leases, size_t count,
                       int64_t lease_ms, int64_t *ret_lost, struct pg_error *error)
{
    char lease[NUMBER_SIZE + 16];

    return change_leases(session, "SELECT cicada.event_extend($1, $2, $3, $4)", leases, count,
                         interval_text(lease, lease_ms), ret_lost, error);
}

int event_store_give_back(struct pg_session *session, const struct event_lease *leases, size_t count,
                          struct pg_error *error)
{
    int lost = change_leases(session, "SELECT cicada.event_give_back($1, $2, $3)", leases, count,
                             /* interval= */ NULL, /* ret_lost= */ NULL, error);

    return lost < 0 ? -1 : 0;
}

/* One that answers whether the event was still ours. */
static int end_lease(struct pg_session *session, const char *sql, int param_count, const char *const *params,
                     struct pg_error *error)
{
    CLEANUP_PG_RESULT struct pg_result *result = NULL;

    if (call(session, sql, param_count, params, &result, error) != 0)
        return -1;
    return pg_result_bool(result, 0, 0);
}

struct lease_text {
    char slot[NUMBER_SIZE], id[NUMBER_SIZE], epoch[NUMBER_SIZE];
};

static void print_lease(struct lease_text *ret_text, const struct event_lease *lease)
{
    snprintf(ret_text->slot, sizeof(ret_text->slot), "%d", lease->slot);
    snprintf(ret_text->id, sizeof(ret_text->id), "%" PRId64, lease->id);
    snprintf(ret_text->epoch, sizeof(ret_text->epoch), "%d", lease->epoch);
}

int event_store_retry(struct pg_session *session, const struct event_lease *lease, int64_t delay_ms,
                      bool spend, const char *text, struct pg_error *error)
{
    struct lease_text key;
    char delay[NUMBER_SIZE + 16];

    print_lease(&key, lease);
    const char *const params[] = {key.slot,          key.id, key.epoch, interval_text(delay, delay_ms),
                                  spend ? "t" : "f", text};
    return end_lease(session, "SELECT cicada.event_retry($1, $2, $3, $4, $5, $6)", (int)ARRAY_SIZE(params),
                     params, error);
}

int event_store_bury(struct pg_session *session, const struct event_lease *lease, const char *reason,
                     const char *text, struct pg_error *error)
{
    struct lease_text key;

    print_lease(&key, lease);
    const char *const params[] = {key.slot, key.id, key.epoch, reason, text};
    return end_lease(session, "SELECT cicada.event_bury($1, $2, $3, $4, $5)", (int)ARRAY_SIZE(params), params,
                     error);
}

int event_store_sleep(struct pg_session *session, const int *queue_ids, size_t count, struct pg_error *error)
{
    CLEANUP_STRBUF struct strbuf ids;

    strbuf_init(&ids, ARRAY_MAX_BYTES);
    for (size_t i = 0; i < count; i++)
        pg_array_add_number(&ids, queue_ids[i]);
    const char *const params[] = {pg_array_end(&ids)};
    return call(session, "SELECT cicada.queue_sleep($1)", 1, params, NULL, error);
}

int event_store_maintain(struct pg_session *session, struct pg_error *error)
{
    return call(session, "SELECT cicada.event_maintain()", 0, NULL, NULL, error);
}

int event_store_purge(struct pg_session *session, int most, struct pg_error *error)
{
    char number[NUMBER_SIZE];
    const char *const params[] = {number};

    snprintf(number, sizeof(number), "%d", most);
    return call(session, "SELECT cicada.dedup_purge($1)", 1, params, NULL, error);
}
