#include "operator/backlog/backlog.h"

#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "operator/backlog/backlog_internal.h"
#include "runtime/base/clock.h"
#include "runtime/base/monotonic_cond.h"
#include "runtime/base/text.h"

#define STOP_MS         2000
#define CLEANUP_SQL_MAX 32768   /* of 16 triggers with names as long as may be */
#define REPLICAS_MAX    1000000 /* more than any Function may have */
#define HEARD_MS        2000    /* two looks of the autoscaler */
#define BEHIND_S        2.0

/* ---- the table ---- */

char *function_key(const char *namespace, const char *name)
{
    return xasprintf("%s/%s", namespace, name);
}

static struct watched *find_locked(struct backlog *backlog, const char *namespace, const char *name)
{
    CLEANUP_FREE char *key = function_key(namespace, name);
    struct watched *watched;

    HASH_FIND_STR(backlog->functions, key, watched);
    return watched;
}

static struct watched *make_locked(struct backlog *backlog, const struct function_spec *spec)
{
    CLEANUP_FREE char *key = function_key(spec->namespace, spec->name);
    size_t size = strlen(key) + 1;
    struct watched *watched = xcalloc(1, sizeof(*watched) + size);

    memcpy(watched->key, key, size);
    watched->refs = 1;
    watched->awake = true; /* until it is said that it sleeps: then nobody is woken for nothing */
    HASH_ADD_STR(backlog->functions, key, watched);
    return watched;
}

void watched_unref_locked(struct watched *watched)
{
    if (--watched->refs > 0)
        return;
    function_spec_unref(watched->spec);
    if (watched->owner_url != NULL)
        explicit_bzero(watched->owner_url, strlen(watched->owner_url));
    free(watched->owner_url);
    free(watched->message);
    free(watched);
}

/* NULL: it is nobody's. */
static void move_locked(struct watched *watched, struct database_watch *watch)
{
    if (watched->watch == watch)
        return;
    if (watched->watch != NULL) {
        struct watched **link = &watched->watch->members;
        while (*link != watched)
            link = &(*link)->next;
        *link = watched->next;
        watch_changed_locked(watched->watch);
    }
    watched->watch = watch;
    watched->work = NULL;
    watched->next = NULL;
    if (watch != NULL) {
        watched->next = watch->members;
        watch->members = watched;
        watch_changed_locked(watch);
    }
}

/* ---- what is wanted ---- */

static bool texts_equal(char *const *a, size_t a_count, char *const *b, size_t b_count)
{
    if (a_count != b_count)
        return false;
    for (size_t i = 0; i < a_count; i++)
        if (strcmp(a[i], b[i]) != 0)
            return false;
    return true;
}

/* How events are delivered is not of interest here, but for what `wanted` is reckoned with, which is read from the newest spec. */
static bool triggers_equal(const struct function_trigger *a, const struct function_trigger *b)
{
    return strcmp(a->name, b->name) == 0 && a->source == b->source && a->ordered == b->ordered &&
           a->missed == b->missed && str_equal_or_both_null(a->queue, b->queue) &&
           str_equal_or_both_null(a->table, b->table) && str_equal_or_both_null(a->when, b->when) &&
           str_equal_or_both_null(a->cron, b->cron) && str_equal_or_both_null(a->time_zone, b->time_zone) &&
           texts_equal(a->operations, a->operation_count, b->operations, b->operation_count) &&
           texts_equal(a->columns, a->column_count, b->columns, b->column_count);
}

static bool specs_equal(const struct function_spec *a, const struct function_spec *b)
{
    if (a == b)
        return true;
    if (!str_equal_or_both_null(a->uid, b->uid) || a->trigger_count != b->trigger_count)
        return false;
    for (size_t i = 0; i < a->trigger_count; i++)
        if (!triggers_equal(&a->triggers[i], &b->triggers[i]))
            return false;
    return true;
}

/* What was told is about something else from now on. */
static void begin_anew_locked(struct watched *watched)
{
    watched->revision++;
    watched->reason = NULL;
    free(steal_ptr(&watched->message));
    memset(watched->figures, 0, sizeof(watched->figures));
    memset(watched->next_run_s, 0, sizeof(watched->next_run_s));
    if (watched->watch != NULL)
        watch_changed_locked(watched->watch);
}

static void want(struct backlog *backlog, struct function_spec *spec, const char *url, const char *owner_url,
                 bool removing)
{
    pthread_mutex_lock(&backlog->mu);
    user_forget_locked(backlog, spec->namespace, spec->name);
    struct watched *watched = find_locked(backlog, spec->namespace, spec->name);
    if (watched == NULL)
        watched = make_locked(backlog, spec);
    bool same = watched->spec != NULL && watched->removing == removing && specs_equal(watched->spec, spec);
    struct function_spec *before = watched->spec;
    watched->spec = function_spec_ref(spec);
    function_spec_unref(before);
    watched->removing = removing;
    if (url != NULL && !stop_is_set(&backlog->stop)) {
        struct database_watch *watch = watch_get_locked(backlog, url, spec->database_pooler_transaction);
        same = same && watched->watch == watch && str_equal_or_both_null(watched->owner_url, owner_url);
        move_locked(watched, watch);
        free(watched->owner_url);
        watched->owner_url = xstrdup_or_null(owner_url);
    }
    if (!same)
        begin_anew_locked(watched);
    server_count_locked(watched);
    pthread_mutex_unlock(&backlog->mu);
}

void backlog_set(struct backlog *backlog, struct function_spec *spec, const char *url, const char *owner_url)
{
    want(backlog, spec, url, owner_url, /* removing= */ false);
}

void backlog_remove(struct backlog *backlog, struct function_spec *spec, const char *url,
                    const char *owner_url)
{
    want(backlog, spec, url, owner_url, /* removing= */ true);
}

static void forget_locked(struct backlog *backlog, const char *namespace, const char *name)
{
    struct watched *watched = find_locked(backlog, namespace, name);

    if (watched != NULL) {
        move_locked(watched, NULL);
        server_count_locked(watched);
        HASH_DEL(backlog->functions, watched);
        watched_unref_locked(watched);
    }
}

void backlog_forget(struct backlog *backlog, const char *namespace, const char *name)
{
    pthread_mutex_lock(&backlog->mu);
    forget_locked(backlog, namespace, name);
    user_forget_locked(backlog, namespace, name);
    pthread_mutex_unlock(&backlog->mu);
}

void backlog_use(struct backlog *backlog, const struct function_spec *spec, const char *url)
{
    pthread_mutex_lock(&backlog->mu);
    forget_locked(backlog, spec->namespace, spec->name);
    if (url != NULL && !spec->database_pooler_transaction)
        user_set_locked(backlog, spec, url);
    else
        user_forget_locked(backlog, spec->namespace, spec->name);
    pthread_mutex_unlock(&backlog->mu);
}

bool backlog_has_watches(struct backlog *backlog)
{
    pthread_mutex_lock(&backlog->mu);
    bool any = backlog->watches != NULL;
    pthread_mutex_unlock(&backlog->mu);
    return any;
}

void backlog_set_awake(struct backlog *backlog, const char *namespace, const char *name, bool awake)
{
    pthread_mutex_lock(&backlog->mu);
    struct watched *watched = find_locked(backlog, namespace, name);
    if (watched != NULL && watched->awake != awake) {
        watched->awake = awake;
        if (watched->watch != NULL)
            watch_changed_locked(watched->watch);
    }
    pthread_mutex_unlock(&backlog->mu);
}

/* ---- what is told ---- */

static bool is_known(const struct figures *figures, int64_t now_ms)
{
    return figures->read_ms != 0 && now_ms - figures->read_ms <= BACKLOG_KNOWN_MS;
}

static int replicas_for(int64_t events, const struct function_spec *spec,
                        const struct function_trigger *trigger)
{
    int64_t each = (int64_t)(trigger->batch_size > 0 ? trigger->batch_size : 1) *
                   (spec->event_concurrency > 0 ? spec->event_concurrency : 1);
    int64_t replicas = (events + each - 1) / each;

    return (int)(replicas < REPLICAS_MAX ? replicas : REPLICAS_MAX);
}

static struct backlog_load load_locked(const struct watched *watched, int64_t now_ms)
{
    const struct function_spec *spec = watched->spec;
    struct backlog_load load = {.any_triggers = spec->trigger_count > 0, .known = true};

    for (size_t i = 0; i < spec->trigger_count; i++) {
        const struct figures *figures = &watched->figures[i];
        load.known = load.known && is_known(figures, now_ms);
        load.due += figures->due;
        load.in_progress += figures->leased;
        load.wanted += replicas_for(figures->due, spec, &spec->triggers[i]);
        load.held += replicas_for(figures->due + figures->leased, spec, &spec->triggers[i]);
        if (figures->oldest_s > load.oldest_s)
            load.oldest_s = figures->oldest_s;
    }
    if (watched->server != NULL) {
        const struct connection_user user = server_user(spec);
        int most = connection_budget_event_replicas(&watched->server->budget, &user);
        load.wanted = load.wanted < most ? load.wanted : most;
        load.held = load.held < most ? load.held : most;
    }
    /* What came and was done between two looks is heard of: an idle consumer wants to be notified, and we are, too. */
    load.busy =
        load.due + load.in_progress > 0 || (watched->heard_ms != 0 && now_ms - watched->heard_ms < HEARD_MS);
    load.behind = load.oldest_s >= BEHIND_S;
    return load;
}

struct backlog_load backlog_load(struct backlog *backlog, const char *namespace, const char *name)
{
    struct backlog_load load = {0};

    pthread_mutex_lock(&backlog->mu);
    const struct watched *watched = find_locked(backlog, namespace, name);
    if (watched != NULL)
        load = load_locked(watched, clock_monotonic_ms());
    pthread_mutex_unlock(&backlog->mu);
    return load;
}

/* For a person to run as the tables' owner, when we can't. All of these names are of letters, digits, '.', '_' and '-'. */
static char *cleanup_sql(const struct function_spec *spec)
{
    CLEANUP_STRBUF struct strbuf sql;

    strbuf_init(&sql, CLEANUP_SQL_MAX);
    for (size_t i = 0; i < spec->trigger_count; i++) {
        const struct function_trigger *trigger = &spec->triggers[i];
        CLEANUP_FREE char *who = xasprintf("'%s', '%s', '%s'", spec->namespace, spec->name, trigger->name);
        switch (trigger->source) {
        case TRIGGER_QUEUE:
            strbuf_appendf(&sql, "SELECT cicada.queue_release('%s', %s);\n", trigger->queue, who);
            break;
        case TRIGGER_TABLE:
            strbuf_appendf(&sql,
                           "SELECT cicada.table_unregister(%s);\nSELECT cicada.table_drop(%s);\n"
                           "SELECT cicada.queue_release(cicada.trigger_queue(%s), %s);\n",
                           who, who, who, who);
            break;
        case TRIGGER_SCHEDULE:
            strbuf_appendf(&sql, "SELECT cicada.schedule_remove(%s);\n", who);
            break;
        }
    }
    return strbuf_detach(&sql, NULL);
}

char *backlog_left_behind(struct backlog *backlog, const char *namespace, const char *name, const char *url)
{
    char *sql = NULL;

    pthread_mutex_lock(&backlog->mu);
    const struct watched *watched = find_locked(backlog, namespace, name);
    if (watched != NULL && watched->watch != NULL && url != NULL && watched->spec->trigger_count > 0 &&
        strcmp(watched->watch->url, url) != 0 && !server_urls_agree(watched->watch->url, url))
        sql = cleanup_sql(watched->spec);
    pthread_mutex_unlock(&backlog->mu);
    return sql;
}

static void set_problem(struct backlog_function *ret, const char *reason, const char *message)
{
    ret->progress = BACKLOG_PROBLEM;
    ret->reason = xstrdup(reason);
    ret->message = xstrdup(message);
}

static void describe_progress_locked(const struct watched *watched, int64_t now_ms,
                                     struct backlog_function *ret)
{
    const struct database_watch *watch = watched->watch;
    bool settled = watched->settled == watched->revision;

    if (watch != NULL && watch->away_since_ms != 0)
        ret->unreachable_ms = now_ms - watch->away_since_ms;
    if (watched->removing && settled) {
        ret->progress = BACKLOG_REMOVED;
    } else if (watch == NULL) {
        ret->url_unknown = true;
        set_problem(ret, BACKLOG_UNREACHABLE, "no URL of its database is known");
    } else if (ret->unreachable_ms >= BACKLOG_UNREACHABLE_MS) {
        set_problem(ret, BACKLOG_UNREACHABLE, watch->away_reason);
    } else if (watch->schema_missing) {
        set_problem(ret, BACKLOG_SCHEMA_MISSING, watch->schema_message);
    } else if (watched->reason != NULL) {
        set_problem(ret, watched->reason, watched->message);
    } else {
        ret->progress = settled ? BACKLOG_READY : BACKLOG_WORKING;
        ret->message = xstrdup_or_null(watched->message);
    }
}

void watched_describe_locked(const struct watched *watched, int64_t now_ms, struct backlog_function *ret)
{
    const struct function_spec *spec = watched->spec;
    struct backlog_load load = load_locked(watched, now_ms);

    *ret = (struct backlog_function){
        .spec = function_spec_ref(watched->spec),
        .trigger_count = spec->trigger_count,
        .known = load.known,
        .due = load.due,
        .in_progress = load.in_progress,
        .wanted = load.wanted,
    };
    for (size_t i = 0; i < spec->trigger_count; i++) {
        const struct figures *figures = &watched->figures[i];
        ret->triggers[i] = (struct backlog_trigger){
            .name = spec->triggers[i].name,
            .known = is_known(figures, now_ms),
            .due = figures->due,
            .delayed = figures->delayed,
            .leased = figures->leased,
            .blocked = figures->blocked,
            .dead = figures->dead,
            .capped = figures->capped,
            .oldest_s = figures->oldest_s,
            .next_run_s = watched->next_run_s[i],
        };
    }
    if (watched->server != NULL) {
        ret->connections = watched->server->budget;
        ret->own_connections = watched->connections;
    }
    describe_progress_locked(watched, now_ms, ret);
    if (watched->removing && ret->progress != BACKLOG_REMOVED)
        ret->cleanup_sql = cleanup_sql(spec);
}

bool backlog_read(struct backlog *backlog, const char *namespace, const char *name,
                  struct backlog_function *ret)
{
    pthread_mutex_lock(&backlog->mu);
    const struct watched *watched = find_locked(backlog, namespace, name);
    if (watched != NULL)
        watched_describe_locked(watched, clock_monotonic_ms(), ret);
    pthread_mutex_unlock(&backlog->mu);
    return watched != NULL;
}

void backlog_function_release(struct backlog_function *function)
{
    function_spec_unref(function->spec);
    free(function->reason);
    free(function->message);
    free(function->cleanup_sql);
    *function = (struct backlog_function){0};
}

/* ---- life ---- */

static void make_metrics(struct backlog_metrics *ret, struct metrics *metrics)
{
    static const char *const by_trigger[] = {"namespace", "function", "trigger", NULL};
    static const char *const by_what[] = {"what", NULL};
    static const char *const by_state[] = {"state", NULL};

    *ret = (struct backlog_metrics){
        .due = metrics_gauge(metrics, "cicada_events_due",
                             "Events that could be handled now, of a trigger; counted up to 10,000.",
                             by_trigger),
        .delayed = metrics_gauge(metrics, "cicada_events_delayed",
                                 "Events that are not due yet, or wait before another attempt.", by_trigger),
        .in_progress = metrics_gauge(metrics, "cicada_events_in_progress",
                                     "Events that a replica has in hand.", by_trigger),
        .dead = metrics_gauge(metrics, "cicada_events_dead", "Dead letters.", by_trigger),
        .oldest = metrics_gauge(metrics, "cicada_events_oldest_age_seconds",
                                "How long the oldest due event has been due.", by_trigger),
        .ticks = metrics_counter(metrics, "cicada_event_ticks_total",
                                 "Events made of a schedule's ticks by this process.", by_trigger),
        .errors = metrics_counter(metrics, "cicada_event_watch_errors_total",
                                  "Calls of databases that failed, by what they were for.", by_what),
        .watches = metrics_gauge(metrics, "cicada_event_watches",
                                 "Databases that are watched: listening, polling (notifications do not come"
                                 " through), away.",
                                 by_state),
    };
}

struct backlog *backlog_new(const struct backlog_settings *settings, struct metrics *metrics)
{
    struct backlog *backlog = xcalloc(1, sizeof(*backlog));

    backlog->settings = *settings;
    if (backlog->settings.zoneinfo_directory == NULL)
        backlog->settings.zoneinfo_directory = TIME_ZONE_DIRECTORY;
    make_metrics(&backlog->metrics, metrics);
    stop_init(&backlog->stop);
    pthread_mutex_init(&backlog->mu, NULL);
    monotonic_cond_init(&backlog->thread_ended);
    return backlog;
}

void backlog_stop(struct backlog *backlog)
{
    int64_t deadline_ms = clock_monotonic_ms() + STOP_MS;

    stop_set(&backlog->stop);
    pthread_mutex_lock(&backlog->mu);
    while (backlog->threads > 0 && clock_monotonic_ms() < deadline_ms)
        (void)monotonic_cond_wait(&backlog->thread_ended, &backlog->mu, deadline_ms);
    pthread_mutex_unlock(&backlog->mu);
}

bool backlog_free(struct backlog *backlog)
{
    struct watched *watched, *next;

    if (backlog == NULL)
        return true;
    backlog_stop(backlog);
    pthread_mutex_lock(&backlog->mu);
    bool hangs = backlog->threads > 0;
    pthread_mutex_unlock(&backlog->mu);
    if (hangs)
        return false; /* what it uses must stay */
    HASH_ITER(hh, backlog->functions, watched, next)
    {
        /* What is freed is in the table no more. NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
        HASH_DEL(backlog->functions, watched);
        watched_unref_locked(watched);
    }
    users_free(backlog);
    pthread_mutex_destroy(&backlog->mu);
    pthread_cond_destroy(&backlog->thread_ended);
    stop_release(&backlog->stop);
    free(backlog);
    return true;
}
