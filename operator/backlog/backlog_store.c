#include "operator/backlog/backlog_store.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "operator/function/function_spec.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/postgres/pg_array.h"

/* A session that is silent for longer is given up. There is a poll each second, so a connection that is dead is found in that time. */
#define CALL_TIMEOUT_MS  10000
#define POLL_TIMEOUT_MS  5000
#define ARRAY_MAX_BYTES  (1u << 20)
#define TIME_TEXT_SIZE   RFC3339_SIZE
#define COUNT_MAX        1000000 /* the schema counts to 10,000 */
#define AGE_MAX_S        1e9
#define TABLE_LOCK_LIMIT "SET LOCAL lock_timeout = '500ms'"

/* ---- one call ---- */

/* first NULL: nothing is done before. */
static int call_after(struct pg_session *session, const struct pg_command *first, const char *sql,
                      int param_count, const char *const *params, struct pg_result **ret_result,
                      struct pg_error *error)
{
    struct pg_command commands[2];
    size_t count = 0;

    if (first != NULL)
        commands[count++] = *first;
    commands[count++] = (struct pg_command){.sql = sql, .param_count = param_count, .params = params};
    return pg_session_run(session, commands, count, clock_monotonic_ms() + CALL_TIMEOUT_MS, ret_result,
                          error);
}

static int call(struct pg_session *session, const char *sql, int param_count, const char *const *params,
                struct pg_result **ret_result, struct pg_error *error)
{
    return call_after(session, NULL, sql, param_count, params, ret_result, error);
}

/* Whoever has the database says what it likes: numbers of other sizes would overflow where they are added up. */
static int64_t value_count(const struct pg_result *result, int row, int column)
{
    int64_t count = pg_result_int64(result, row, column);

    return count < 0 ? 0 : count > COUNT_MAX ? COUNT_MAX : count;
}

static double value_age(const struct pg_result *result, int row, int column)
{
    double age_s = strtod(pg_result_text(result, row, column), NULL);

    return age_s > 0 ? (age_s < AGE_MAX_S ? age_s : AGE_MAX_S) : 0; /* no number is not above 0 */
}

/* One that is told whose trigger it is about, and answers yes or no. */
static int call_for(struct pg_session *session, const struct pg_command *first, const char *sql,
                    const struct store_trigger *who, bool *ret_answer, struct pg_error *error)
{
    const char *const params[] = {who->namespace, who->function, who->trigger};
    CLEANUP_PG_RESULT struct pg_result *result = NULL;

    if (call_after(session, first, sql, (int)ARRAY_SIZE(params), params, &result, error) != 0)
        return -1;
    if (ret_answer != NULL)
        *ret_answer = pg_result_bool(result, 0, 0);
    return 0;
}

/* ---- the session and the schema ---- */

int store_listen(struct pg_session *session, const char *channel, struct pg_error *error)
{
    static const struct pg_command wake = {.sql = "LISTEN cicada_wake"};
    CLEANUP_FREE char *listen = xasprintf("LISTEN %s", channel);

    return call_after(session, &wake, listen, 0, NULL, NULL, error);
}

int store_notify(struct pg_session *session, const char *channel, struct pg_error *error)
{
    CLEANUP_FREE char *notify = xasprintf("NOTIFY %s, '" STORE_PING "'", channel);

    return call(session, notify, 0, NULL, NULL, error);
}

int store_version(struct pg_session *session, int *ret_version, char *ret_min_runtime, size_t size,
                  bool *ret_absent, struct pg_error *error)
{
    CLEANUP_PG_RESULT struct pg_result *there = NULL;
    CLEANUP_PG_RESULT struct pg_result *state = NULL;

    *ret_version = 0;
    *ret_absent = false;
    ret_min_runtime[0] = '\0';
    /* Whether it is there comes first: a server logs an error that is none to anybody. */
    if (call(session,
             "SELECT coalesce(pg_catalog.has_schema_privilege(pg_catalog.to_regnamespace('cicada'), "
             "'USAGE'), false),"
             " pg_catalog.to_regnamespace('cicada') IS NULL",
             0, NULL, &there, error) != 0)
        return -1;
    *ret_absent = pg_result_bool(there, 0, 1);
    if (!pg_result_bool(there, 0, 0))
        return 0;
    if (call(session, "SELECT version, min_runtime FROM cicada.schema_state()", 0, NULL, &state, error) != 0)
        return error->failure == PG_FAILURE_SQL ? 0 : -1;
    *ret_version = (int)pg_result_int64(state, 0, 0);
    snprintf(ret_min_runtime, size, "%s", pg_result_text(state, 0, 1));
    return 0;
}

int store_max_connections(struct pg_session *session, int *ret_number, struct pg_error *error)
{
    CLEANUP_PG_RESULT struct pg_result *result = NULL;

    if (call(session, "SELECT pg_catalog.current_setting('max_connections')", 0, NULL, &result, error) != 0)
        return -1;
    *ret_number = (int)value_count(result, 0, 0);
    return 0;
}

/* ---- queues ---- */

int store_queue_name(struct pg_session *session, const struct store_trigger *who,
                     char ret_queue[STORE_QUEUE_SIZE], struct pg_error *error)
{
    const char *const params[] = {who->namespace, who->function, who->trigger};
    CLEANUP_PG_RESULT struct pg_result *result = NULL;

    if (call(session, "SELECT cicada.trigger_queue($1, $2, $3)", (int)ARRAY_SIZE(params), params, &result,
             error) != 0)
        return -1;
    snprintf(ret_queue, STORE_QUEUE_SIZE, "%s", pg_result_text(result, 0, 0));
    return 0;
}

int store_consume(struct pg_session *session, const char *queue, const struct store_trigger *who,
                  bool ordered, char ret_holder[STORE_HOLDER_SIZE], struct pg_error *error)
{
    const char *const params[] = {queue, who->namespace, who->function, who->trigger, ordered ? "t" : "f"};
    CLEANUP_PG_RESULT struct pg_result *result = NULL;

    if (call(session, "SELECT held_by FROM cicada.queue_consume($1, $2, $3, $4, $5)", (int)ARRAY_SIZE(params),
             params, &result, error) != 0)
        return -1;
    snprintf(ret_holder, STORE_HOLDER_SIZE, "%s", pg_result_text(result, 0, 0));
    return 0;
}

int store_release(struct pg_session *session, const char *queue, const struct store_trigger *who,
                  bool *ret_gone, struct pg_error *error)
{
    const char *const params[] = {queue, who->namespace, who->function, who->trigger};
    CLEANUP_PG_RESULT struct pg_result *result = NULL;

    if (call(session, "SELECT cicada.queue_release($1, $2, $3, $4)", (int)ARRAY_SIZE(params), params, &result,
             error) != 0)
        return -1;
    *ret_gone = pg_result_bool(result, 0, 0);
    return 0;
}

int store_stats(struct pg_session *session, const char *queues, const char *sleep_ids, store_stats_fn *each,
                void *arg, struct pg_error *error)
{
    /* Sequences say who sleeps, and those are seen by all at once: the counts may be taken in the same transaction. */
    const struct pg_command commands[] = {
        {.sql = "SELECT cicada.queue_sleep($1)", .param_count = 1, .params = &sleep_ids},
        {.sql = "SELECT queue, consumer, queue_id, due, delayed, leased, blocked, dead, capped, oldest_due_s"
                " FROM cicada.queue_stats($1)",
         .param_count = 1,
         .params = &queues},
    };
    size_t skipped = sleep_ids == NULL;
    CLEANUP_PG_RESULT struct pg_result *result = NULL;

    if (pg_session_run(session, commands + skipped, ARRAY_SIZE(commands) - skipped,
                       clock_monotonic_ms() + POLL_TIMEOUT_MS, &result, error) != 0)
        return -1;
    for (int row = 0; row < pg_result_rows(result); row++) {
        const struct store_stats stats = {
            .queue = pg_result_text(result, row, 0),
            .consumer = pg_result_text(result, row, 1),
            .queue_id = (int)pg_result_int64(result, row, 2),
            .due = value_count(result, row, 3),
            .delayed = value_count(result, row, 4),
            .leased = value_count(result, row, 5),
            .blocked = value_count(result, row, 6),
            .dead = value_count(result, row, 7),
            .capped = pg_result_bool(result, row, 8),
            .oldest_s = value_age(result, row, 9),
        };
        each(arg, &stats);
    }
    return 0;
}

int store_maintain(struct pg_session *session, struct pg_error *error)
{
    return call(session, "SELECT cicada.event_maintain()", 0, NULL, NULL, error);
}

int store_purge(struct pg_session *session, int most, struct pg_error *error)
{
    CLEANUP_FREE char *number = xasprintf("%d", most);
    const char *const params[] = {number};

    return call(session, "SELECT cicada.dedup_purge($1)", 1, params, NULL, error);
}

int store_triggers_of(struct pg_session *session, const char *namespace, const char *function,
                      store_trigger_fn *each, void *arg, struct pg_error *error)
{
    const char *const params[] = {namespace, function};
    CLEANUP_PG_RESULT struct pg_result *result = NULL;

    if (call(session, "SELECT trigger, source, queue FROM cicada.triggers_of($1, $2)",
             (int)ARRAY_SIZE(params), params, &result, error) != 0)
        return -1;
    for (int row = 0; row < pg_result_rows(result); row++)
        each(arg, pg_result_text(result, row, 0), pg_result_text(result, row, 1),
             pg_result_text(result, row, 2));
    return 0;
}

/* ---- tables ---- */

static const struct pg_command table_lock_limit = {.sql = TABLE_LOCK_LIMIT};

/* NULL: there are none, which means all. */
static const char *text_array(struct strbuf *array, char *const *texts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        pg_array_add_text(array, texts[i]);
    return count > 0 ? pg_array_end(array) : NULL;
}

int store_table_install(struct pg_session *session, const struct store_trigger *who,
                        const struct function_trigger *wanted, bool *ret_changed, struct pg_error *error)
{
    CLEANUP_STRBUF struct strbuf operations;
    CLEANUP_STRBUF struct strbuf columns;
    CLEANUP_PG_RESULT struct pg_result *result = NULL;

    strbuf_init(&operations, ARRAY_MAX_BYTES);
    strbuf_init(&columns, ARRAY_MAX_BYTES);
    const char *const params[] = {
        who->namespace,
        who->function,
        who->trigger,
        wanted->table,
        text_array(&operations, wanted->operations, wanted->operation_count),
        text_array(&columns, wanted->columns, wanted->column_count),
        wanted->when,
        wanted->ordered ? "t" : "f",
    };
    if (call_after(session, &table_lock_limit, "SELECT cicada.table_install($1, $2, $3, $4, $5, $6, $7, $8)",
                   (int)ARRAY_SIZE(params), params, &result, error) != 0)
        return -1;
    *ret_changed = pg_result_bool(result, 0, 0);
    return 0;
}

int store_table_unregister(struct pg_session *session, const struct store_trigger *who,
                           struct pg_error *error)
{
    return call_for(session, NULL, "SELECT cicada.table_unregister($1, $2, $3)", who, NULL, error);
}

int store_table_drop(struct pg_session *session, const struct store_trigger *who, bool *ret_gone,
                     struct pg_error *error)
{
    return call_for(session, &table_lock_limit, "SELECT cicada.table_drop($1, $2, $3)", who, ret_gone, error);
}

/* ---- schedules ---- */

int store_schedule_look(struct pg_session *session, const struct store_trigger *who, const char *expression,
                        int64_t *ret_last_tick_us, int64_t *ret_now_us, struct pg_error *error)
{
    const char *const params[] = {who->namespace, who->function, who->trigger, expression};
    CLEANUP_PG_RESULT struct pg_result *result = NULL;

    if (call(session,
             "SELECT (extract(epoch FROM last_tick) * 1000000)::bigint,"
             " (extract(epoch FROM now_at) * 1000000)::bigint FROM cicada.schedule_look($1, $2, $3, $4)",
             (int)ARRAY_SIZE(params), params, &result, error) != 0)
        return -1;
    *ret_last_tick_us = pg_result_int64(result, 0, 0);
    *ret_now_us = pg_result_int64(result, 0, 1);
    return 0;
}

int store_schedule_tick(struct pg_session *session, const struct store_trigger *who, const char *expression,
                        const struct store_ticks *ticks, bool *ret_ours, struct pg_error *error)
{
    char time[TIME_TEXT_SIZE], last_tick[TIME_TEXT_SIZE], skipped[24];
    CLEANUP_STRBUF struct strbuf times;
    CLEANUP_PG_RESULT struct pg_result *result = NULL;

    strbuf_init(&times, ARRAY_MAX_BYTES);
    for (size_t i = 0; i < ticks->due_count; i++) {
        format_rfc3339(ticks->due_s[i] * 1000, time);
        pg_array_add_text(&times, time);
    }
    format_rfc3339(ticks->last_tick_s * 1000, last_tick);
    snprintf(skipped, sizeof(skipped), "%" PRId64, ticks->skipped);
    const char *const params[] = {who->namespace,       who->function, who->trigger, expression,
                                  pg_array_end(&times), last_tick,     skipped};
    if (call(session, "SELECT cicada.schedule_tick($1, $2, $3, $4, $5, $6, $7)", (int)ARRAY_SIZE(params),
             params, &result, error) != 0)
        return -1;
    *ret_ours = pg_result_bool(result, 0, 0);
    return 0;
}

int store_schedule_remove(struct pg_session *session, const struct store_trigger *who, bool *ret_gone,
                          struct pg_error *error)
{
    return call_for(session, NULL, "SELECT cicada.schedule_remove($1, $2, $3)", who, ret_gone, error);
}
