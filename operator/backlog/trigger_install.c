/* Bringing triggers about in the database, and taking away those that are no longer wanted. */
#include <stdio.h>
#include <string.h>

#include "operator/backlog/backlog_internal.h"
#include "runtime/base/clock.h"
#include "runtime/base/text.h"

#define TURN_MS           300 /* then the queues have their turn again */
#define RETRY_MAX_MS      30000
#define CONFLICT_RETRY_MS 5000
#define VERIFY_MS         300000 /* triggers may be dropped by others */
#define LEFTOVERS_MAX     64

/* The session for DDL: the watch's own, or one as the tables' owner, for as long as one Function is seen to. */
struct owner {
    struct pg_pool *pool;
    struct pg_session *session;
    bool failed; /* it could not be opened, and is not tried again: others wait for their turn */
    struct pg_error why;
};

static void release_owner(struct owner *owner)
{
    pg_session_close(owner->session);
    pg_pool_free(owner->pool);
}
#define CLEANUP_OWNER CLEANUP(release_owner)

static void open_owner(struct database_watch *watch, const struct work *work, struct owner *owner)
{
    struct err err = ERR_INIT;

    if (watch_new_pool(watch, work->owner_url, &owner->pool, &err) != 0) {
        owner->why.failure = PG_FAILURE_UNREACHABLE;
        snprintf(owner->why.message, sizeof(owner->why.message), "%.*s", (int)sizeof(owner->why.message) - 1,
                 err.msg);
    } else {
        owner->session = pg_session_open(owner->pool, &watch->backlog->stop, &owner->why);
    }
    owner->failed = owner->session == NULL;
    if (!owner->failed)
        pg_session_set_result_max(owner->session, STORE_RESULT_MAX_BYTES);
}

/* NULL: *error says why. */
static struct pg_session *owner_session(struct database_watch *watch, const struct work *work,
                                        struct owner *owner, struct pg_error *error)
{
    if (work->owner_url == NULL || strcmp(work->owner_url, watch->url) == 0)
        return watch->session;
    if (owner->session == NULL && !owner->failed)
        open_owner(watch, work, owner);
    if (owner->failed)
        *error = owner->why;
    return owner->session;
}

/* ---- what an error means to people ---- */

struct failure {
    const char *reason; /* NULL: it passes by itself */
    const char *hint;   /* "" */
};

static struct failure judge(const struct pg_error *error, const struct pg_session *session)
{
    static const struct {
        const char *sqlstate, *reason;
        bool hinted;
    } by_sqlstate[] = {
        {"ZC010", BACKLOG_NOT_OWNER, true},      {"ZC011", BACKLOG_INVALID, true},
        {"42501", BACKLOG_SCHEMA_MISSING, true}, {"42883", BACKLOG_SCHEMA_MISSING, false},
        {"22", BACKLOG_INVALID, false},          {"42", BACKLOG_INVALID, false},
    };

    if (error->failure == PG_FAILURE_UNREACHABLE || error->failure == PG_FAILURE_AUTHENTICATION)
        return (struct failure){BACKLOG_UNREACHABLE, ""};
    for (size_t i = 0; i < ARRAY_SIZE(by_sqlstate); i++)
        if (str_starts_with(error->sqlstate, by_sqlstate[i].sqlstate))
            return (struct failure){by_sqlstate[i].reason,
                                    by_sqlstate[i].hinted && session != NULL ? pg_session_hint(session) : ""};
    return (struct failure){NULL, ""};
}

/* session: the one that it happened on; NULL: it could not be opened. */
static void explain(const char **reason, char **message, const char *trigger, const struct pg_error *error,
                    const struct pg_session *session)
{
    struct failure failure = judge(error, session);

    problem_set(reason, message, failure.reason, "trigger %s: %s%s%s", trigger, error->message,
                failure.hint[0] != '\0' ? "; " : "", failure.hint);
}

/* ---- what is no longer wanted ---- */

struct leftover {
    char trigger[64], source[16], queue[STORE_QUEUE_SIZE]; /* queue "": none, or another trigger has it */
};

struct leftovers {
    const struct work *work;
    struct leftover found[LEFTOVERS_MAX]; /* others come with the next look */
    size_t count;
};

static const char *source_name(enum trigger_source source)
{
    static const char *const names[] = {
        [TRIGGER_QUEUE] = "queue", [TRIGGER_TABLE] = "table", [TRIGGER_SCHEDULE] = "schedule"};

    return names[source];
}

static bool is_wanted(const struct work *work, const char *trigger, const char *source, const char *queue)
{
    for (size_t i = 0; i < work->trigger_count && !work->removing; i++) {
        const struct function_trigger *wanted = work->triggers[i].wanted;
        if (strcmp(wanted->name, trigger) == 0 && strcmp(source_name(wanted->source), source) == 0 &&
            (wanted->source != TRIGGER_QUEUE || strcmp(wanted->queue, queue) == 0))
            return true;
    }
    return false;
}

static void take_leftover(void *arg, const char *trigger, const char *source, const char *queue)
{
    struct leftovers *leftovers = arg;

    if (leftovers->count == LEFTOVERS_MAX || is_wanted(leftovers->work, trigger, source, queue))
        return;
    struct leftover *found = &leftovers->found[leftovers->count++];
    snprintf(found->trigger, sizeof(found->trigger), "%s", trigger);
    snprintf(found->source, sizeof(found->source), "%s", source);
    snprintf(found->queue, sizeof(found->queue), "%s", queue);
}

enum removal {
    REMOVAL_DONE,
    REMOVAL_GOES_ON, /* it has begun, and wants another turn */
    REMOVAL_FAILED,
};

static enum removal fail_removal(struct database_watch *watch, struct work *work, const char *trigger,
                                 const struct pg_error *error, const struct pg_session *session)
{
    watch_count_error(watch, "remove", error);
    explain(&work->reason, &work->message, trigger, error, session);
    return REMOVAL_FAILED;
}

/* Without a message, which would say that something is in its way. */
static enum removal went_on(bool gone)
{
    return gone ? REMOVAL_DONE : REMOVAL_GOES_ON;
}

static enum removal remove_table(struct database_watch *watch, struct work *work,
                                 const struct store_trigger *who, const char *queue, struct owner *owner)
{
    struct pg_session *session = watch->session;
    struct pg_error error = {0};
    bool gone = false;

    /* From here on nothing is captured, even if the rest takes its time. */
    if (store_table_unregister(session, who, &error) != 0)
        return fail_removal(watch, work, who->trigger, &error, session);
    session = owner_session(watch, work, owner, &error);
    if (session == NULL || store_table_drop(session, who, &gone, &error) != 0)
        return fail_removal(watch, work, who->trigger, &error, session);
    if (!gone) {
        problem_set(&work->reason, &work->message, NULL, "trigger %s: a table still has it", who->trigger);
        return REMOVAL_FAILED;
    }
    if (queue[0] == '\0')
        return REMOVAL_DONE;
    /* Last: by it is known what is left. */
    if (store_release(watch->session, queue, who, &gone, &error) != 0)
        return fail_removal(watch, work, who->trigger, &error, watch->session);
    return went_on(gone);
}

static enum removal remove_leftover(struct database_watch *watch, struct work *work,
                                    const struct leftover *leftover, struct owner *owner)
{
    const struct store_trigger who = {work->spec->namespace, work->spec->name, leftover->trigger};
    bool is_schedule = strcmp(leftover->source, "schedule") == 0, gone;
    struct pg_error error = {0};
    int rc;

    if (strcmp(leftover->source, "table") == 0)
        return remove_table(watch, work, &who, leftover->queue, owner);
    rc = is_schedule ? store_schedule_remove(watch->session, &who, &gone, &error)
                     : store_release(watch->session, leftover->queue, &who, &gone, &error);
    if (rc != 0)
        return fail_removal(watch, work, who.trigger, &error, watch->session);
    return went_on(gone || !is_schedule); /* a queue of its own keeps what it holds */
}

/* When the Function goes, a table may have triggers of which the schema knows nothing any more. */
static void add_tables_of_spec(struct leftovers *leftovers)
{
    const struct work *work = leftovers->work;

    for (size_t i = 0; i < work->trigger_count && work->removing; i++) {
        bool found = work->triggers[i].wanted->source != TRIGGER_TABLE;
        for (size_t j = 0; j < leftovers->count; j++)
            found = found || strcmp(leftovers->found[j].trigger, work->triggers[i].who.trigger) == 0;
        if (!found)
            take_leftover(leftovers, work->triggers[i].who.trigger, "table", "");
    }
}

/* True: it goes on with the next turn. */
static bool clean(struct database_watch *watch, struct work *work, struct owner *owner)
{
    struct leftovers leftovers = {.work = work};
    struct pg_error error = {0};
    size_t removals[REMOVAL_FAILED + 1] = {0};

    problem_clear(&work->reason, &work->message);
    if (store_triggers_of(watch->session, work->spec->namespace, work->spec->name, take_leftover, &leftovers,
                          &error) != 0) {
        removals[fail_removal(watch, work, "*", &error, watch->session)]++;
        if (strcmp(error.sqlstate, "3F000") == 0) /* no such schema: it has been taken away */
            watch->schema_ready = false;
    }
    add_tables_of_spec(&leftovers);
    for (size_t i = 0; i < leftovers.count && !pg_session_is_lost(watch->session); i++)
        removals[remove_leftover(watch, work, &leftovers.found[i], owner)]++;
    work->cleaned = removals[REMOVAL_DONE] == leftovers.count && removals[REMOVAL_FAILED] == 0 &&
                    leftovers.count < LEFTOVERS_MAX && !pg_session_is_lost(watch->session);
    if (work->cleaned) {
        problem_clear(&work->reason, &work->message);
        work->clean_attempts = 0;
    } else if (removals[REMOVAL_GOES_ON] > 0) {
        work->clean_retry_ms = clock_monotonic_ms();
    } else {
        work->clean_retry_ms = clock_monotonic_ms() + retry_after_ms(work->clean_attempts++, RETRY_MAX_MS);
    }
    return removals[REMOVAL_GOES_ON] > 0;
}

/* ---- what is wanted ---- */

void watch_trigger_failed(struct database_watch *watch, struct work_trigger *trigger, const char *what,
                          const struct pg_error *error, const struct pg_session *session)
{
    watch_count_error(watch, what, error);
    explain(&trigger->reason, &trigger->message, trigger->who.trigger, error, session);
}

static bool fail(struct database_watch *watch, struct work_trigger *trigger, const struct pg_error *error,
                 const struct pg_session *session)
{
    watch_trigger_failed(watch, trigger, "install", error, session);
    return false;
}

static bool consume(struct database_watch *watch, struct work_trigger *trigger)
{
    char holder[STORE_HOLDER_SIZE];
    struct pg_error error = {0};

    if (store_consume(watch->session, trigger->queue, &trigger->who, trigger->wanted->ordered, holder,
                      &error) != 0)
        return fail(watch, trigger, &error, watch->session);
    if (holder[0] == '\0')
        return true;
    problem_set(&trigger->reason, &trigger->message, BACKLOG_QUEUE_CONFLICT,
                "trigger %s: queue %s is consumed by %s", trigger->who.trigger, trigger->queue, holder);
    return false;
}

static bool install(struct database_watch *watch, struct work_trigger *trigger, struct owner *owner)
{
    struct pg_error error = {0};
    struct pg_session *session = owner_session(watch, trigger->work, owner, &error);
    bool changed;

    if (session == NULL ||
        store_table_install(session, &trigger->who, trigger->wanted, &changed, &error) != 0)
        return fail(watch, trigger, &error, session);
    return true;
}

/* Makes it, if it is new. */
static bool begin_schedule(struct database_watch *watch, struct work_trigger *trigger)
{
    struct pg_error error = {0};
    int64_t last_tick_us, now_us;

    if (!tick_prepare(watch, trigger))
        return false;
    if (store_schedule_look(watch->session, &trigger->who, trigger->expression, &last_tick_us, &now_us,
                            &error) != 0)
        return fail(watch, trigger, &error, watch->session);
    trigger->tick_ms = 0;
    return true;
}

static bool learn_queue(struct database_watch *watch, struct work_trigger *trigger)
{
    struct pg_error error = {0};

    if (trigger->queue[0] != '\0')
        return true;
    if (trigger->wanted->source == TRIGGER_QUEUE)
        snprintf(trigger->queue, sizeof(trigger->queue), "%s", trigger->wanted->queue);
    else if (store_queue_name(watch->session, &trigger->who, trigger->queue, &error) != 0)
        return fail(watch, trigger, &error, watch->session);
    watch->queues_changed = true;
    return true;
}

static bool bring_about(struct database_watch *watch, struct work_trigger *trigger, struct owner *owner)
{
    if (!learn_queue(watch, trigger))
        return false;
    switch (trigger->wanted->source) {
    case TRIGGER_QUEUE:
        return consume(watch, trigger);
    case TRIGGER_TABLE:
        return install(watch, trigger, owner);
    case TRIGGER_SCHEDULE:
        return begin_schedule(watch, trigger);
    }
    return false;
}

static int64_t retry_of(struct work_trigger *trigger)
{
    bool conflict = trigger->reason != NULL && strcmp(trigger->reason, BACKLOG_QUEUE_CONFLICT) == 0;

    return retry_after_ms(trigger->attempts++, conflict ? CONFLICT_RETRY_MS : RETRY_MAX_MS);
}

static void see_to_trigger(struct database_watch *watch, struct work_trigger *trigger, struct owner *owner)
{
    trigger->done = bring_about(watch, trigger, owner);
    if (trigger->done) {
        problem_clear(&trigger->reason, &trigger->message);
        trigger->attempts = 0;
        trigger->retry_ms = clock_monotonic_ms() + VERIFY_MS;
        watch->poll_ms = 0;
    } else {
        trigger->retry_ms = clock_monotonic_ms() + retry_of(trigger);
    }
}

/* ---- a turn ---- */

/* When something of it is to be done; a trigger that is done is verified now and then. */
static int64_t next_of(const struct work *work)
{
    int64_t next_ms = work->cleaned ? INT64_MAX : work->clean_retry_ms;

    for (size_t i = 0; i < work->trigger_count && !work->removing; i++)
        if (work->triggers[i].retry_ms < next_ms)
            next_ms = work->triggers[i].retry_ms;
    return next_ms;
}

static void see_to(struct database_watch *watch, struct work *work)
{
    CLEANUP_OWNER struct owner owner = {0};

    /* What is wanted may have the name, and so the queue, of what is going. */
    if (!work->cleaned && clock_monotonic_ms() >= work->clean_retry_ms && clean(watch, work, &owner))
        return;
    for (size_t i = 0; i < work->trigger_count && !work->removing; i++) {
        if (pg_session_is_lost(watch->session))
            return;
        if (clock_monotonic_ms() >= work->triggers[i].retry_ms)
            see_to_trigger(watch, &work->triggers[i], &owner);
    }
}

void watch_settle(struct database_watch *watch)
{
    int64_t start_ms = clock_monotonic_ms();

    for (struct work *work = watch->works; work != NULL; work = work->next) {
        int64_t now_ms = clock_monotonic_ms();
        if (pg_session_is_lost(watch->session) || now_ms - start_ms >= TURN_MS)
            return;
        if (next_of(work) <= now_ms)
            see_to(watch, work);
    }
}

int64_t watch_next_settle_ms(const struct database_watch *watch)
{
    int64_t next_ms = INT64_MAX;

    for (const struct work *work = watch->works; work != NULL; work = work->next) {
        int64_t of_this = next_of(work);
        if (of_this < next_ms)
            next_ms = of_this;
    }
    return next_ms;
}
