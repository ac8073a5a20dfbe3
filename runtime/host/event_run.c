/* Events as invocations, on a worker: alone, several behind savepoints of one transaction, or as a batch.
 *
 * What several share may fail for one of them, or for another reason that is not theirs. Then each of them is run once more, on its
 * own: its attempt is one all the same. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/host/cloud_event_text.h"
#include "runtime/host/crash_watch.h"
#include "runtime/host/event_batch.h"
#include "runtime/host/event_result.h"
#include "runtime/host/event_service_internal.h"
#include "runtime/host/watchdog.h"

#define HEADERS_JSON_DEPTH 2

/* What an invocation of events needs for as long as it lasts. */
struct run {
    struct invocation invocation;
    char request_id[REQUEST_ID_MAX + 1];
    struct event_item item;   /* of a single one */
    struct event_batch batch; /* of several */
    struct strbuf body;
};

/* ---- events as a request ---- */

static struct json_doc *parse_headers(const struct event *event)
{
    struct json_doc *doc = NULL;
    struct err err = ERR_INIT;

    if (event->headers != NULL &&
        json_reader_parse(event->headers, strlen(event->headers), HEADERS_JSON_DEPTH, &doc, &err) != 0)
        log_warn("headers of the event: %s", err.msg); /* enqueue() has checked them, and that they are few */
    return doc;
}

/* The event's own, after the Content-Type. */
static struct http_header *read_headers(struct arena *arena, const struct event *event, size_t *ret_count)
{
    struct json_doc *doc = parse_headers(event);
    const struct json_node *root = doc != NULL ? json_doc_root(doc) : NULL;
    size_t most = root != NULL ? json_node_count(root) : 0, count = 0;
    struct http_header *headers = arena_alloc(arena, (most + 1) * sizeof(*headers));

    headers[count++] = (struct http_header){"Content-Type", "application/json"};
    for (const struct json_node *node = root != NULL ? json_node_first(root) : NULL; node != NULL;
         node = json_node_next(node)) {
        size_t len;
        const char *name = json_node_name(node, &len), *value = json_node_string(node, NULL);
        if (name != NULL && value != NULL)
            headers[count++] =
                (struct http_header){arena_strndup(arena, name, len), arena_strdup(arena, value)};
    }
    json_doc_free(doc);
    *ret_count = count;
    return headers;
}

static void make_request(struct run *run, const struct http_header *headers, size_t header_count,
                         const char *body, size_t len)
{
    struct invocation *invocation = &run->invocation;
    struct err err = ERR_INIT;
    const struct request_source source = {
        .method = "POST",
        .raw_path = "/",
        .headers = headers,
        .header_count = header_count,
        .body = body,
        .body_len = len,
    };

    if (request_init(&invocation->request, &sdk_calls, &invocation->arena, &source, &err) != 0)
        log_error("%s", err.msg); /* can't be: the path has no query */
}

static void begin(struct event_service *service, struct run *run, int worker, const struct event *event)
{
    const struct consumer_trigger *trigger = &service->triggers[event->trigger];
    struct invocation *invocation = &run->invocation;

    snprintf(run->request_id, sizeof(run->request_id), "%s-%" PRId64 "-%d",
             trigger->queue != NULL ? trigger->queue : trigger->name, event->lease.id, event->attempt);
    invocation_init(invocation, &service->settings.target, /* http= */ NULL, run->request_id,
                    clock_monotonic_us(), service->settings.spec->timeout_ms);
    invocation->lane = (unsigned)worker;
    invocation_trace(invocation, &service->trace_ids, event->traceparent);
    invocation_set_log_scope(invocation, service->object);
}

/* What the handler's transaction passes on to events that it sends. */
static void set_transaction(struct invocation *invocation, const struct event_item *item)
{
    invocation->database.settings = item->settings;
    invocation->database.setting_count = (int)ARRAY_SIZE(item->settings);
}

static void begin_one(struct run *run, const struct event *event)
{
    struct invocation *invocation = &run->invocation;
    const struct http_header *headers;
    size_t count;

    event_item_init(&run->item, event, invocation->trace.traceparent);
    invocation->event = &run->item.cloud;
    invocation->lease = &event->lease;
    set_transaction(invocation, &run->item);
    headers = read_headers(&invocation->arena, event, &count);
    make_request(run, headers, count, event->payload, event->payload_len);
}

static void begin_batch(struct run *run, struct event_job *const *jobs, size_t count)
{
    static const struct http_header type = {"Content-Type", CLOUD_EVENT_BATCH_TYPE};
    struct invocation *invocation = &run->invocation;
    size_t deepest = 0, bytes = 2;

    run->batch = (struct event_batch){
        .items = arena_alloc(&invocation->arena, count * sizeof(*run->batch.items)),
        .count = count,
    };
    for (size_t i = 0; i < count; i++) {
        event_item_init(&run->batch.items[i], jobs[i]->event, invocation->trace.traceparent);
        bytes += cloud_event_text_max(&run->batch.items[i].cloud);
        if (jobs[i]->event->depth > jobs[deepest]->event->depth)
            deepest = i;
    }
    strbuf_init(&run->body, bytes);
    event_batch_print(&run->batch, &run->body);
    invocation->batch = &run->batch;
    set_transaction(invocation, &run->batch.items[deepest]);
    make_request(run, &type, 1, run->body.buf, run->body.len);
    invocation->request.is_batch = true;
}

/* ---- runs ---- */

static void run_invocation(struct event_service *service, struct invocation *invocation)
{
    watchdog_add(service->watchdog, invocation);
    crash_watch_enter(service->settings.board, invocation->request_id);
    invocation_run(invocation);
    crash_watch_leave(service->settings.board);
    (void)watchdog_remove(service->watchdog, invocation);
}

enum run_end {
    RUN_OVER,  /* the result tells */
    RUN_KEPT,  /* it is settled with the transaction that it shares */
    RUN_AGAIN, /* on its own, it may well succeed */
};

/* shared NULL: in a transaction of its own. */
static enum run_end run_one(struct event_service *service, int worker, struct event_job *job,
                            struct pg_transaction *shared, struct settlement *settlement)
{
    struct run run;
    enum run_end end = RUN_OVER;

    begin(service, &run, worker, job->event);
    run.invocation.settlement = settlement;
    run.invocation.database.shared = shared;
    begin_one(&run, job->event);
    run_invocation(service, &run.invocation);
    event_result_read(&job->result, &run.invocation);
    if (run.invocation.kept) {
        end = RUN_KEPT;
    } else if (run.invocation.belongs_alone) {
        end = RUN_AGAIN;
        event_result_read_error(&job->result,
                                &run.invocation.database.error); /* of a run that was broken off */
    }
    invocation_release(&run.invocation);
    log_scope_clear();
    return end;
}

/* True: what it says is as true of each of those that shared the transaction. */
static bool concerns_all(const struct event_result *result)
{
    if (result->lost) /* unless it is one lease, of which it is not known whose */
        return strcmp(result->sqlstate, EVENT_LOST_SQLSTATE) != 0;
    return outcome_is_passing(result) && !str_starts_with(result->sqlstate, "40");
}

/* ---- batches ---- */

/* An event that failed in a batch may have met what those before it did, or have failed as the whole did. */
static bool may_be_of_neighbour(const struct event_result *failure, const struct event_result *whole)
{
    return (failure->by_database && !outcome_is_passing(failure)) ||
           (!whole->settled && !concerns_all(whole));
}

static void read_batch(const struct run *run, struct event_job *const *jobs, enum run_end *ret_ends)
{
    const struct invocation *invocation = &run->invocation;
    struct event_result whole;

    event_result_read(&whole, invocation);
    for (size_t i = 0; i < run->batch.count; i++) {
        const struct event_item *item = &run->batch.items[i];
        ret_ends[i] = RUN_OVER;
        jobs[i]->result = item->failed ? item->failure : whole;
        if (item->failed) {
            if (i > 0 && may_be_of_neighbour(&item->failure, &whole))
                ret_ends[i] = RUN_AGAIN;
            continue;
        }
        if (!whole.settled)
            ret_ends[i] = run->batch.count == 1 || concerns_all(&whole) ? RUN_OVER : RUN_AGAIN;
        else if (!event_batch_is_done(&run->batch, i))
            jobs[i]->result = (struct event_result){.untouched = true};
    }
}

static void run_batch(struct event_service *service, int worker, struct event_job *const *jobs, size_t count,
                      enum run_end *ret_ends)
{
    struct settlement settlement;
    struct run run;

    settlement_init(&settlement);
    begin(service, &run, worker, jobs[0]->event);
    run.invocation.settlement = &settlement;
    begin_batch(&run, jobs, count);
    run_invocation(service, &run.invocation);
    read_batch(&run, jobs, ret_ends);
    invocation_release(&run.invocation);
    strbuf_release(&run.body);
    settlement_release(&settlement);
    log_scope_clear();
}

static void run_alone(struct event_service *service, int worker, struct event_job *job)
{
    struct settlement settlement;
    enum run_end ignored;

    if (service->triggers[job->event->trigger].batch_size > 1) {
        run_batch(service, worker, &job, 1, &ignored);
        return;
    }
    settlement_init(&settlement);
    (void)run_one(service, worker, job, /* shared= */ NULL, &settlement);
    settlement_release(&settlement);
}

/* ---- several in one transaction ---- */

/* Half as many after a conflict or a slow one, and slowly more again: what waits in a group keeps its locks for longer. */
static void adapt_group(struct event_service *service, bool conflict)
{
    int most = atomic_load(&service->group_most);

    if (conflict)
        atomic_store(&service->group_most, most / 2 > 1 ? most / 2 : 1);
    else if (most < EVENT_GROUP_MAX)
        atomic_store(&service->group_most, most + 1);
}

/* The transaction's end: those that it has kept are settled by it, or not. */
static void end_group(struct event_service *service, struct pg_transaction *transaction,
                      struct settlement *settlement, struct event_result *ret_result)
{
    struct pg_error error = {0};

    *ret_result = (struct event_result){.settled = true};
    if (settlement->count == 0)
        return;
    (void)settlement_write(settlement);
    pg_transaction_set_deadline(transaction, clock_monotonic_ms() + service->settings.spec->timeout_ms);
    if (pg_query_commit(transaction, settlement_sql(settlement), SETTLEMENT_PARAMS, settlement->params,
                        /* ret_result= */ NULL, &error) == 0)
        return;
    log_info("%zu events are not committed together: %s", settlement->count, error.message);
    *ret_result = (struct event_result){.retry_after_ms = -1};
    event_result_read_error(ret_result, &error);
}

static bool is_conflict(const struct event_result *result)
{
    return result->by_database && str_starts_with(result->sqlstate, "40");
}

/* It may have met what others did in the transaction that they share: a failure that would be final, or one of the database's. */
static bool may_be_others(const struct event_service *service, const struct event_job *job)
{
    const struct event_result *result = &job->result;
    const struct delivery *delivery = &service->triggers[job->event->trigger].delivery;

    if (result->settled || result->untouched)
        return false;
    if (result->lost)
        return strcmp(result->sqlstate, EVENT_LOST_SQLSTATE) == 0;
    return (result->by_database && result->sqlstate[0] && !outcome_is_passing(result)) ||
           outcome_decide(result, delivery, job->event->attempt, /* unspent= */ 0, /* random= */ 0).verdict ==
               EVENT_BURY;
}

/* whole: how the transaction ended, for those that it has kept. */
static void read_group(const struct event_service *service, struct event_job *const *jobs, size_t count,
                       const struct event_result *whole, enum run_end *ends)
{
    bool kept_before = false;

    for (size_t i = 0; i < count; i++) {
        if (ends[i] == RUN_KEPT) {
            jobs[i]->result = *whole;
            ends[i] = whole->settled || concerns_all(whole) ? RUN_OVER : RUN_AGAIN;
            kept_before = true;
        } else if (kept_before && ends[i] == RUN_OVER && may_be_others(service, jobs[i])) {
            ends[i] = RUN_AGAIN;
        }
    }
}

static bool is_slow(int64_t begin_us)
{
    return clock_monotonic_us() - begin_us > 5 * CONSUMER_GROUP_US;
}

/* Returns how many were run. */
static size_t run_group(struct event_service *service, int worker, struct event_job *const *jobs,
                        size_t count, enum run_end *ret_ends)
{
    int64_t now_us = clock_monotonic_us(), until_us = now_us + CONSUMER_GROUP_US;
    struct pg_transaction *transaction =
        pg_transaction_new(service->settings.target.pool, /* read_only= */ false,
                           now_us / 1000 + service->settings.spec->timeout_ms);
    struct settlement settlement;
    struct event_result whole;
    bool conflict = false;
    size_t done = 0;

    settlement_init(&settlement);
    do {
        ret_ends[done] = run_one(service, worker, jobs[done], transaction, &settlement);
        conflict = conflict || is_conflict(&jobs[done]->result);
        done++;
    } while (done < count && pg_transaction_is_open(transaction) && clock_monotonic_us() < until_us);
    if (jobs[done - 1]->result.settled) /* by the handler's own commit, with those before it */
        whole = jobs[done - 1]->result;
    else
        end_group(service, transaction, &settlement, &whole);
    read_group(service, jobs, done, &whole, ret_ends);
    adapt_group(service, conflict || is_conflict(&whole) || is_slow(now_us));
    pg_transaction_free(transaction);
    settlement_release(&settlement);
    return done;
}

/* ---- on a worker ---- */

static size_t run_some(struct event_service *service, int worker, struct event_job *const *jobs, size_t count,
                       enum run_end *ret_ends)
{
    int most = atomic_load(&service->group_most);
    int64_t begin_us = clock_monotonic_us();

    if (service->triggers[jobs[0]->event->trigger].batch_size > 1) {
        run_batch(service, worker, jobs, count, ret_ends);
        return count;
    }
    if (count > 1 && most > 1)
        return run_group(service, worker, jobs, count < (size_t)most ? count : (size_t)most, ret_ends);
    run_alone(service, worker, jobs[0]);
    ret_ends[0] = RUN_OVER;
    if (most == 1)
        adapt_group(service, is_conflict(&jobs[0]->result) || is_slow(begin_us));
    return 1;
}

void event_run(void *arg, int worker, struct event_job *const *jobs, size_t count)
{
    struct event_service *service = arg;
    enum run_end ends[CONSUMER_RUN_MAX] = {RUN_OVER};

    for (size_t begun = 0; begun < count;) {
        size_t more = 0;
        if (atomic_load(&service->draining)) {
            jobs[begun++]->result = (struct event_result){.untouched = true};
            continue;
        }
        more = run_some(service, worker, jobs + begun, count - begun, ends);
        for (size_t i = begun; i < begun + more; i++) {
            if (ends[i - begun] != RUN_AGAIN)
                continue;
            if (atomic_load(&service->draining))
                jobs[i]->result = (struct event_result){.untouched = true};
            else
                run_alone(service, worker, jobs[i]);
        }
        begun += more;
    }
}
