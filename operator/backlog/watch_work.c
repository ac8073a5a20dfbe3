/* What a watch has to do, taken from what is wanted; and what came of it, told. */
#include <string.h>

#include "operator/backlog/backlog_internal.h"
#include "runtime/base/clock.h"
#include "runtime/base/text.h"

#define FIGURES_SHOWN_MS 10000

/* ---- the works ---- */

static void clear_triggers(struct database_watch *watch, struct work *work)
{
    HASH_CLEAR(by_queue, watch->queues); /* some of these are in it */
    watch->queues_changed = true;
    for (size_t i = 0; i < work->trigger_count; i++) {
        struct work_trigger *trigger = &work->triggers[i];
        tick_release(trigger);
        problem_clear(&trigger->reason, &trigger->message);
    }
    memset(work->triggers, 0, sizeof(work->triggers));
    work->trigger_count = 0;
}

/* Of all its triggers, which begin anew: the next spec may have others. */
static void remove_series(const struct database_watch *watch, const struct work *work)
{
    const struct backlog_metrics *metrics = &watch->backlog->metrics;
    struct metric_family *const families[] = {metrics->due,  metrics->delayed, metrics->in_progress,
                                              metrics->dead, metrics->oldest,  metrics->ticks};

    for (size_t i = 0; i < ARRAY_SIZE(families); i++)
        metric_family_remove(families[i], (const char *const[]){work->spec->namespace, work->spec->name}, 2);
}

/* A new spec, or another errand with it: all is done anew. */
static void begin_work_locked(struct database_watch *watch, struct work *work, const struct watched *watched)
{
    struct function_spec *before = work->spec;

    if (before != NULL)
        remove_series(watch, work);
    clear_triggers(watch, work);
    problem_clear(&work->reason, &work->message);
    free(work->owner_url);
    work->spec = function_spec_ref(watched->spec);
    function_spec_unref(before);
    work->owner_url = xstrdup_or_null(watched->owner_url);
    work->removing = watched->removing;
    work->revision = watched->revision;
    work->cleaned = false;
    work->clean_retry_ms = 0;
    work->clean_attempts = 0;
    work->trigger_count = work->spec->trigger_count;
    for (size_t i = 0; i < work->trigger_count; i++) {
        const struct function_trigger *wanted = &work->spec->triggers[i];
        work->triggers[i] = (struct work_trigger){
            .work = work,
            .wanted = wanted,
            .number = i,
            .who = {work->spec->namespace, work->spec->name, wanted->name},
        };
    }
}

static struct work *add_work_locked(struct database_watch *watch, struct watched *watched)
{
    struct work *work = xcalloc(1, sizeof(*work));

    work->watched = watched;
    watched->refs++;
    watched->work = work;
    work->next = watch->works;
    watch->works = work;
    return work;
}

static void free_work(struct database_watch *watch, struct work *work)
{
    remove_series(watch, work);
    clear_triggers(watch, work);
    problem_clear(&work->reason, &work->message);
    function_spec_unref(work->spec);
    free(work->owner_url);
    pthread_mutex_lock(&watch->backlog->mu);
    watched_unref_locked(work->watched);
    pthread_mutex_unlock(&watch->backlog->mu);
    free(work);
}

static void take_changes_locked(struct database_watch *watch)
{
    for (struct work *work = watch->works; work != NULL; work = work->next)
        work->gone = true;
    for (struct watched *watched = watch->members; watched != NULL; watched = watched->next) {
        struct work *work = watched->work != NULL ? watched->work : add_work_locked(watch, watched);
        work->gone = false;
        if (work->revision != watched->revision)
            begin_work_locked(watch, work, watched);
        if (work->awake && !watched->awake)
            watch->poll_ms = 0; /* its queues are looked at at once */
        work->awake = watched->awake;
    }
    watch->changed = false;
}

static void unlink_locked(struct database_watch *watch)
{
    struct watched *next;

    for (struct watched *watched = watch->members; watched != NULL; watched = next) {
        next = watched->next;
        watched->watch = NULL;
        watched->work = NULL;
        watched->next = NULL;
        server_count_locked(watched);
    }
    server_leave_locked(watch);
    watch->members = NULL;
    HASH_DEL(watch->backlog->watches, watch);
}

bool watch_take(struct database_watch *watch)
{
    struct backlog *backlog = watch->backlog;
    struct work *gone = NULL;

    pthread_mutex_lock(&backlog->mu);
    bool ends = stop_is_set(&backlog->stop) || watch->members == NULL;
    if (ends)
        unlink_locked(watch);
    else if (watch->changed)
        take_changes_locked(watch);
    pthread_mutex_unlock(&backlog->mu);
    if (ends)
        return false;
    for (struct work **link = &watch->works; *link != NULL;) {
        struct work *work = *link;
        if (!work->gone) {
            link = &work->next;
            continue;
        }
        *link = work->next;
        work->next = gone;
        gone = work;
    }
    while (gone != NULL) {
        struct work *work = gone;
        gone = work->next;
        free_work(watch, work);
    }
    return true;
}

void watch_release_works(struct database_watch *watch)
{
    while (watch->works != NULL) {
        struct work *work = watch->works;
        watch->works = work->next;
        free_work(watch, work);
    }
}

/* The next session looks at everything anew: a server that crashed may have undone the last of it. */
void watch_forget_session(struct database_watch *watch)
{
    for (struct work *work = watch->works; work != NULL; work = work->next) {
        work->cleaned = work->cleaned && work->removing;
        work->clean_retry_ms = 0;
        for (size_t i = 0; i < work->trigger_count; i++) {
            work->triggers[i].done = false;
            work->triggers[i].retry_ms = 0;
        }
    }
}

/* ---- telling ---- */

static const struct work_trigger *problem_of(const struct work *work)
{
    const struct work_trigger *waits = NULL;

    for (size_t i = 0; i < work->trigger_count; i++) {
        if (work->triggers[i].reason != NULL)
            return &work->triggers[i];
        if (work->triggers[i].message != NULL && waits == NULL)
            waits = &work->triggers[i];
    }
    return waits;
}

static bool is_settled(const struct work *work)
{
    bool settled = work->cleaned;

    for (size_t i = 0; i < work->trigger_count && !work->removing; i++)
        settled = settled && work->triggers[i].done;
    return settled;
}

static void tell_locked(struct work *work)
{
    struct watched *watched = work->watched;
    const struct work_trigger *problem = problem_of(work);
    bool from_cleaning = work->reason != NULL || (problem == NULL && work->message != NULL);

    if (watched->revision != work->revision || watched->work != work)
        return;
    free(watched->message);
    watched->reason = from_cleaning ? work->reason : problem != NULL ? problem->reason : NULL;
    watched->message = xstrdup_or_null(from_cleaning     ? work->message
                                       : problem != NULL ? problem->message
                                                         : NULL);
    if (is_settled(work))
        watched->settled = work->revision;
    watched->heard_ms = work->heard_ms;
    for (size_t i = 0; i < work->trigger_count; i++) {
        watched->figures[i] = work->triggers[i].figures;
        watched->next_run_s[i] = work->triggers[i].next_run_s;
    }
}

static uint64_t hash_text(uint64_t hash, const char *text)
{
    return hash_fnv1a(hash, text != NULL ? text : "", text != NULL ? strlen(text) + 1 : 1);
}

/* Of what people should see at once. */
static uint64_t hash_state(const struct backlog_function *function)
{
    bool away = function->unreachable_ms >= BACKLOG_UNREACHABLE_MS;
    bool exceeded = connection_budget_is_exceeded(&function->connections);
    bool counted = function->connections.max_connections > 0;
    uint64_t hash = hash_fnv1a(HASH_FNV1A_START, &function->progress, sizeof(function->progress));

    hash = hash_fnv1a(hash, &away, sizeof(away));
    hash = hash_fnv1a(hash, &exceeded, sizeof(exceeded));
    hash = hash_fnv1a(hash, &counted, sizeof(counted));
    hash = hash_text(hash, function->reason);
    hash = hash_text(hash, function->message);
    for (size_t i = 0; i < function->trigger_count; i++)
        hash = hash_fnv1a(hash, &function->triggers[i].next_run_s, sizeof(int64_t));
    return hash;
}

static uint64_t hash_figures(const struct backlog_function *function)
{
    uint64_t hash = hash_fnv1a(HASH_FNV1A_START, &function->known, sizeof(function->known));

    for (size_t i = 0; i < function->trigger_count; i++) {
        const struct backlog_trigger *trigger = &function->triggers[i];
        const int64_t counts[] = {trigger->due,     trigger->delayed, trigger->leased,
                                  trigger->blocked, trigger->dead,    backlog_shown_age_s(trigger->oldest_s)};
        hash = hash_fnv1a(hash, counts, sizeof(counts));
    }
    return hash;
}

/* True: it is worth to be shown. */
static bool note_shown_locked(struct watched *watched, const struct backlog_function *now, int64_t now_ms)
{
    uint64_t state = hash_state(now), figures = hash_figures(now);
    bool show = state != watched->shown_hash ||
                (figures != watched->shown_figures_hash &&
                 (watched->shown_figures_ms == 0 || now_ms - watched->shown_figures_ms >= FIGURES_SHOWN_MS));

    if (show) {
        watched->shown_hash = state;
        watched->shown_figures_hash = figures;
        watched->shown_figures_ms = now_ms;
    }
    return show;
}

static void set_gauge(struct metric_family *family, const struct work_trigger *trigger, double value)
{
    const char *const labels[] = {trigger->who.namespace, trigger->who.function, trigger->who.trigger};

    metric_set(metric_family_get(family, labels), value);
}

static void show_metrics(const struct backlog_metrics *metrics, const struct work *work)
{
    for (size_t i = 0; i < work->trigger_count; i++) {
        const struct work_trigger *trigger = &work->triggers[i];
        const struct figures *figures = &trigger->figures;
        if (figures->read_ms == 0)
            continue;
        set_gauge(metrics->due, trigger, (double)figures->due);
        set_gauge(metrics->delayed, trigger, (double)figures->delayed);
        set_gauge(metrics->in_progress, trigger, (double)figures->leased);
        set_gauge(metrics->dead, trigger, (double)figures->dead);
        set_gauge(metrics->oldest, trigger, figures->oldest_s);
    }
}

void watch_tell(struct database_watch *watch)
{
    struct backlog *backlog = watch->backlog;

    for (struct work *work = watch->works; work != NULL; work = work->next) {
        int64_t now_ms = clock_monotonic_ms();
        struct backlog_function function = {0};
        bool show = false;
        pthread_mutex_lock(&backlog->mu);
        tell_locked(work);
        if (work->watched->work == work) {
            watched_describe_locked(work->watched, now_ms, &function);
            show = note_shown_locked(work->watched, &function, now_ms);
        }
        pthread_mutex_unlock(&backlog->mu);
        backlog_function_release(&function);
        show_metrics(&backlog->metrics, work);
        if (show && backlog->settings.changed != NULL && !stop_is_set(&backlog->stop))
            backlog->settings.changed(backlog->settings.arg, work->spec->namespace, work->spec->name);
    }
}
