/* lease.c - leader election on a Lease, after client-go tools/leaderelection. */
#include <stdatomic.h>

#include "operator/controller/controller.h"
#include "operator/queue/thread.h"
#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

#define RECORD_SECONDS_MAX 3600
#define RELEASE_TIMEOUT_MS 3000

struct lease {
    struct lease_settings settings; /* its strings are the three below */
    char *namespace, *name, *identity;
    struct kube_client *client; /* derived: its time limit is that of one attempt */
    struct stop stop;
    pthread_t thread;
    bool is_started;
    atomic_bool release;
    atomic_bool leader;
    atomic_llong renewed_ms; /* monotonic, when the last successful attempt began */

    /* Election thread only. */
    int64_t attempt_deadline_ms;
    cJSON *record;         /* the Lease as the server last gave it; NULL: to be read */
    uint64_t record_hash;  /* of its spec */
    int64_t record_ms;     /* monotonic, when that spec was first seen here: the only time that counts */
    char *reported_holder; /* the last one that was logged */
};

enum outcome {
    OUTCOME_HELD,   /* by us */
    OUTCOME_OTHER,  /* by somebody else, and not expired */
    OUTCOME_FAILED, /* unknown; err says why */
};

struct lease *lease_new(struct kube_client *client, const struct lease_settings *settings)
{
    struct lease *lease = xcalloc(1, sizeof(*lease));
    lease->settings = *settings;
    lease->settings.namespace = lease->namespace = xstrdup(settings->namespace);
    lease->settings.name = lease->name = xstrdup(settings->name);
    lease->settings.identity = lease->identity = xstrdup(settings->identity);
    lease->client = kube_client_new_derived(client, settings->renew_deadline_ms / 2);
    stop_init(&lease->stop);
    return lease;
}

void lease_free(struct lease *lease)
{
    if (!lease)
        return;
    kube_client_free(lease->client);
    stop_release(&lease->stop);
    cJSON_Delete(lease->record);
    free(lease->reported_holder);
    free(lease->namespace);
    free(lease->name);
    free(lease->identity);
    free(lease);
}

/* Before each request: the requests of one attempt share its time. */
static void limit_time(struct lease *lease)
{
    int64_t left_ms = lease->attempt_deadline_ms - clock_monotonic_ms();
    kube_client_set_timeout(lease->client, left_ms > 1 ? left_ms : 1);
}

/* ---- the record ---- */

static const char *holder_of(const cJSON *record)
{
    const char *holder = json_string(json_object(record, "spec"), "holderIdentity");
    return holder ? holder : "";
}

static void observe(struct lease *lease, cJSON *record /* taken */)
{
    uint64_t hash = json_hash(json_object(record, "spec"));
    if (!lease->record_ms || hash != lease->record_hash) {
        lease->record_hash = hash;
        lease->record_ms = clock_monotonic_ms();
    }
    cJSON_Delete(lease->record);
    lease->record = record;
    const char *holder = holder_of(record);
    if (!str_equal_or_both_null(lease->reported_holder, holder)) {
        log_info("lease %s/%s: %s%s", lease->namespace, lease->name, holder[0] ? "held by " : "free", holder);
        free(lease->reported_holder);
        lease->reported_holder = xstrdup(holder);
    }
}

static void forget_record(struct lease *lease)
{
    cJSON_Delete(lease->record);
    lease->record = NULL;
}

/* How long the record that we saw change last is still good; 0: it has expired. */
static int64_t record_left_ms(const struct lease *lease)
{
    int64_t seconds = json_int64(json_object(lease->record, "spec"), "leaseDurationSeconds", 0);
    int64_t duration_ms =
        seconds > 0 && seconds <= RECORD_SECONDS_MAX ? seconds * 1000 : lease->settings.duration_ms;
    int64_t left_ms = lease->record_ms + duration_ms - clock_monotonic_ms();
    return left_ms > 0 ? left_ms : 0;
}

static void set_string(cJSON *object, const char *name, const char *value)
{
    cJSON_DeleteItemFromObjectCaseSensitive(object, name);
    json_add_string(object, name, value);
}

static void set_int64(cJSON *object, const char *name, int64_t value)
{
    cJSON_DeleteItemFromObjectCaseSensitive(object, name);
    json_add_int64(object, name, value);
}

/* Writes "we hold it now" (or, to release, "nobody does") into the record, and leaves what others keep there. */
static void fill_record(const struct lease *lease, cJSON *record, bool release)
{
    cJSON *spec = cJSON_GetObjectItemCaseSensitive(record, "spec");
    if (!cJSON_IsObject(spec)) {
        cJSON_DeleteItemFromObjectCaseSensitive(record, "spec");
        spec = json_add_object(record, "spec");
    }
    const char *holder = json_string(spec, "holderIdentity");
    bool is_ours = holder && strcmp(holder, lease->identity) == 0;
    bool is_new = !json_get(spec, "leaseTransitions");
    char now[RFC3339_SIZE];
    format_rfc3339_micro(clock_wall_us(), now);
    if (!is_ours && !is_new)
        set_int64(spec, "leaseTransitions", json_int64(spec, "leaseTransitions", 0) + 1);
    else if (is_new)
        set_int64(spec, "leaseTransitions", 0);
    if (!is_ours || release || !json_get(spec, "acquireTime"))
        set_string(spec, "acquireTime", now);
    set_string(spec, "renewTime", now);
    set_string(spec, "holderIdentity", release ? "" : lease->identity);
    set_int64(spec, "leaseDurationSeconds", release ? 1 : (lease->settings.duration_ms + 999) / 1000);
}

static int create_record(struct lease *lease, struct err *err)
{
    CLEANUP_JSON cJSON *record = cJSON_CreateObject();
    json_add_string(record, "apiVersion", "coordination.k8s.io/v1");
    json_add_string(record, "kind", "Lease");
    cJSON *metadata = json_add_object(record, "metadata");
    json_add_string(metadata, "namespace", lease->namespace);
    json_add_string(metadata, "name", lease->name);
    fill_record(lease, record, /* release= */ false);
    cJSON *made = NULL;
    limit_time(lease);
    if (kube_create(lease->client, &kube_leases, lease->namespace, record, &made, err) != 0)
        return -1;
    observe(lease, made);
    return 0;
}

/* The record's resourceVersion is the precondition: two that write at once do not both succeed. */
static int update_record(struct lease *lease, bool release, struct err *err)
{
    CLEANUP_JSON cJSON *record = cJSON_Duplicate(lease->record, /* recurse= */ true);
    fill_record(lease, record, release);
    cJSON *updated = NULL;
    limit_time(lease);
    if (kube_update(lease->client, &kube_leases, lease->namespace, lease->name, record, &updated, err) != 0) {
        forget_record(lease);
        return -1;
    }
    observe(lease, updated);
    return 0;
}

static int read_record(struct lease *lease, struct err *err)
{
    cJSON *record = NULL;
    limit_time(lease);
    if (kube_get(lease->client, &kube_leases, lease->namespace, lease->name, &record, err) != 0)
        return -1;
    observe(lease, record);
    return 0;
}

/* ---- the election ---- */

static bool is_ours(const struct lease *lease)
{
    return lease->record && strcmp(holder_of(lease->record), lease->identity) == 0;
}

static enum outcome read_and_write(struct lease *lease, struct err *err)
{
    if (read_record(lease, err) != 0) {
        if (err->code != ERR_NOT_FOUND)
            return OUTCOME_FAILED;
        err_clear(err);
        return create_record(lease, err) == 0 ? OUTCOME_HELD : OUTCOME_FAILED;
    }
    if (holder_of(lease->record)[0] && !is_ours(lease) && record_left_ms(lease) > 0)
        return OUTCOME_OTHER;
    return update_record(lease, /* release= */ false, err) == 0 ? OUTCOME_HELD : OUTCOME_FAILED;
}

static enum outcome attempt(struct lease *lease, int64_t time_limit_ms, struct err *err)
{
    int64_t started_ms = clock_monotonic_ms();
    lease->attempt_deadline_ms = started_ms + time_limit_ms;
    enum outcome outcome;
    /* While we lead, our last answer is most likely what is stored: one write, no read. */
    if (atomic_load(&lease->leader) && is_ours(lease)) {
        outcome = update_record(lease, /* release= */ false, err) == 0 ? OUTCOME_HELD : OUTCOME_FAILED;
        if (outcome == OUTCOME_FAILED && (err->code == ERR_CONFLICT || err->code == ERR_NOT_FOUND)) {
            err_clear(err);
            outcome = read_and_write(lease, err);
        }
    } else {
        outcome = read_and_write(lease, err);
    }
    if (outcome == OUTCOME_HELD)
        atomic_store(&lease->renewed_ms, started_ms);
    return outcome;
}

static void report_failure(const struct lease *lease, const struct err *err)
{
    /* Two candidates that write at once: one of them reads again, that is all. */
    if (err->code == ERR_CONFLICT || err->code == ERR_ALREADY_EXISTS || err->code == ERR_CANCELLED)
        log_debug("lease %s/%s: %s", lease->namespace, lease->name, err->msg);
    else
        log_warn("lease %s/%s: %s", lease->namespace, lease->name, err->msg);
}

/* Until the next try: jittered, so that candidates spread out; but when another's record runs out before that, right then. */
static int64_t retry_wait_ms(const struct lease *lease, enum outcome outcome)
{
    int64_t retry_ms = lease->settings.retry_ms;
    int64_t jitter_ms = (int64_t)(random_u64() % (uint64_t)(retry_ms / 4 + 1));
    int64_t left_ms = outcome == OUTCOME_OTHER ? record_left_ms(lease) : 0;
    return left_ms > 0 && left_ms < retry_ms ? left_ms + jitter_ms / 4 : retry_ms + jitter_ms;
}

/* True once it is ours; false when stopped before. */
static bool acquire(struct lease *lease)
{
    while (!stop_is_set(&lease->stop)) {
        struct err err = ERR_INIT;
        enum outcome outcome = attempt(lease, lease->settings.renew_deadline_ms / 2, &err);
        if (outcome == OUTCOME_HELD)
            return true;
        if (outcome == OUTCOME_FAILED)
            report_failure(lease, &err);
        stop_wait(&lease->stop, retry_wait_ms(lease, outcome));
    }
    return false;
}

static int64_t deadline_left(const struct lease *lease)
{
    return atomic_load(&lease->renewed_ms) + lease->settings.renew_deadline_ms - clock_monotonic_ms();
}

static int64_t min_ms(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* True when stopped, false when it is lost. */
static bool keep(struct lease *lease)
{
    for (;;) {
        int64_t left_ms = deadline_left(lease);
        if (left_ms <= 0)
            return false;
        if (stop_wait(&lease->stop, min_ms(left_ms, lease->settings.retry_ms)))
            return true;
        struct err err = ERR_INIT;
        left_ms = deadline_left(lease);
        enum outcome outcome = attempt(lease, min_ms(left_ms, lease->settings.renew_deadline_ms / 2), &err);
        if (outcome == OUTCOME_OTHER)
            return false;
        if (outcome == OUTCOME_FAILED)
            report_failure(lease, &err);
    }
}

static void hand_over(struct lease *lease)
{
    lease->attempt_deadline_ms = clock_monotonic_ms() + RELEASE_TIMEOUT_MS;
    struct err err = ERR_INIT;
    if (is_ours(lease) && update_record(lease, /* release= */ true, &err) == 0)
        return;
    err_clear(&err);
    if (read_record(lease, &err) != 0 ||
        (is_ours(lease) && update_record(lease, /* release= */ true, &err) != 0))
        log_warn("lease %s/%s: not released: %s", lease->namespace, lease->name, err.msg);
}

static void *run(void *arg)
{
    struct lease *lease = arg;
    if (!acquire(lease))
        return NULL;
    atomic_store(&lease->leader, true);
    lease->settings.on_elected(lease->settings.arg);
    bool is_kept = keep(lease);
    atomic_store(&lease->leader, false);
    if (!is_kept) {
        log_error("lease %s/%s: lost", lease->namespace, lease->name);
        lease->settings.on_lost(lease->settings.arg);
    } else if (atomic_load(&lease->release)) {
        hand_over(lease);
    }
    return NULL;
}

void lease_start(struct lease *lease)
{
    lease->is_started = true;
    lease->thread = thread_start("lease", run, lease);
}

bool lease_is_leader(const struct lease *lease)
{
    /* The time as well: this process may have been frozen for longer than the lease lasts. */
    return atomic_load(&lease->leader) &&
           clock_monotonic_ms() - atomic_load(&lease->renewed_ms) < lease->settings.duration_ms;
}

void lease_stop(struct lease *lease, bool release)
{
    atomic_store(&lease->release, release);
    stop_set(&lease->stop);
    if (!lease->is_started)
        return;
    pthread_join(lease->thread, NULL);
    lease->is_started = false;
}
