#include "operator/tests/support_backlog.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/tests/support_postgres.h"

#define PAUSE_MS 10

static struct event_fixture *group_events;

static void note_due(void *arg, const char *namespace, const char *name)
{
    struct backlog_world *world = arg;

    assert_string_equal(namespace, "shop");
    pthread_mutex_lock(&world->mu);
    size_t i = 0;
    while (i < world->told_count && strcmp(world->told[i], name) != 0)
        i++;
    if (i == world->told_count && i < BACKLOG_TOLD) {
        snprintf(world->told[i], sizeof(world->told[i]), "%s", name);
        world->told_ms[i] = clock_monotonic_ms();
        world->told_count++;
    }
    pthread_mutex_unlock(&world->mu);
}

static void note_changed(void *arg, const char *namespace, const char *name)
{
    struct backlog_world *world = arg;

    (void)namespace;
    (void)name;
    atomic_fetch_add(&world->changes, 1);
}

struct backlog *backlog_make(struct backlog_world *world, bool allow_local_hosts)
{
    const struct backlog_settings settings = {
        .allow_local_hosts = allow_local_hosts, .due = note_due, .changed = note_changed, .arg = world};

    return backlog_new(&settings, world->metrics);
}

int backlog_setup_bare(void **state)
{
    struct backlog_world *world = xcalloc(1, sizeof(*world));

    pthread_mutex_init(&world->mu, NULL);
    world->metrics = metrics_new();
    world->backlog = backlog_make(world, true);
    *state = world;
    return 0;
}

int backlog_setup(void **state)
{
    struct event_fixture *events = group_events;

    session_exec(events->owner,
                 "TRUNCATE cicada.queue, cicada.schedule, cicada.event_0, cicada.event_1, cicada.event_2,"
                 " cicada.event_3, cicada.event_4, cicada.dead_letter");
    (void)backlog_setup_bare(state);
    ((struct backlog_world *)*state)->events = events;
    return 0;
}

int backlog_teardown(void **state)
{
    struct backlog_world *world = *state;

    backlog_free(world->backlog);
    metrics_free(world->metrics);
    pthread_mutex_destroy(&world->mu);
    free(world);
    return 0;
}

int backlog_group_setup(void **state)
{
    (void)events_setup(state);
    group_events = *state;
    return 0;
}

int backlog_group_teardown(void **state)
{
    void *events = group_events;

    (void)state;
    return events_teardown(&events);
}

/* ---- what is wanted ---- */

static struct function_spec *make_spec_with(const char *name, const char *triggers, const char *pooler)
{
    CLEANUP_FREE char *yaml = xasprintf("{handler: a.so:f, database: {secretRef: {name: db}, pooler: %s},"
                                        " eventConcurrency: 4, triggers: %s}",
                                        pooler, triggers);
    cJSON *object = support_function(yaml);
    struct function_spec *spec;
    struct err err = ERR_INIT;

    cJSON_ReplaceItemInObject(cJSON_GetObjectItem(object, "metadata"), "name", cJSON_CreateString(name));
    if (function_spec_parse(object, &spec, &err) != 0)
        fail_msg("%s", err.msg);
    cJSON_Delete(object);
    return spec;
}

static struct function_spec *make_spec(const char *name, const char *triggers)
{
    return make_spec_with(name, triggers, "None");
}

void backlog_want_pooled(struct backlog_world *world, const char *name, const char *triggers, const char *url)
{
    CLEANUP_SPEC struct function_spec *spec = make_spec_with(name, triggers, "Transaction");

    backlog_set(world->backlog, spec, url, NULL);
}

void backlog_want(struct backlog_world *world, struct backlog *backlog, const char *name,
                  const char *triggers, const char *url)
{
    CLEANUP_SPEC struct function_spec *spec = make_spec(name, triggers);

    backlog_set(backlog, spec, url != NULL ? url : world->events->guest_url, NULL);
}

void backlog_want_owner(struct backlog_world *world, const char *name, const char *triggers,
                        const char *owner_url)
{
    CLEANUP_SPEC struct function_spec *spec = make_spec(name, triggers);

    backlog_set(world->backlog, spec, world->events->guest_url, owner_url);
}

void backlog_use_of(struct backlog_world *world, const char *name, const char *pooler, const char *url)
{
    CLEANUP_SPEC struct function_spec *spec = make_spec_with(name, "[]", pooler);

    backlog_use(world->backlog, spec, url);
}

void backlog_unwant(struct backlog_world *world, const char *name, const char *triggers)
{
    CLEANUP_SPEC struct function_spec *spec = make_spec(name, triggers);

    backlog_remove(world->backlog, spec, NULL, NULL);
}

/* ---- waiting ---- */

bool backlog_was_due(struct backlog_world *world, const char *name)
{
    bool found = false;

    pthread_mutex_lock(&world->mu);
    for (size_t i = 0; i < world->told_count; i++)
        found = found || strcmp(world->told[i], name) == 0;
    pthread_mutex_unlock(&world->mu);
    return found;
}

void backlog_forget_due(struct backlog_world *world)
{
    pthread_mutex_lock(&world->mu);
    world->told_count = 0;
    pthread_mutex_unlock(&world->mu);
}

void backlog_wait_due(struct backlog_world *world, const char *name)
{
    int64_t deadline_ms = clock_monotonic_ms() + BACKLOG_WAIT_MS;

    while (!backlog_was_due(world, name)) {
        if (clock_monotonic_ms() > deadline_ms)
            fail_msg("%s was not told to be due", name);
        pgtest_sleep_ms(PAUSE_MS);
    }
}

static bool is_as(const struct backlog_function *function, enum backlog_progress progress, const char *reason,
                  const char *message_part)
{
    return function->progress == progress && str_equal_or_both_null(function->reason, reason) &&
           (message_part == NULL ||
            (function->message != NULL && strstr(function->message, message_part) != NULL));
}

void backlog_wait_progress(struct backlog *backlog, const char *name, enum backlog_progress progress,
                           const char *reason, const char *message_part)
{
    int64_t deadline_ms = clock_monotonic_ms() + BACKLOG_WAIT_MS;
    bool done = false;

    while (!done) {
        struct backlog_function function;
        assert_true(backlog_read(backlog, "shop", name, &function));
        done = is_as(&function, progress, reason, message_part);
        if (!done && clock_monotonic_ms() > deadline_ms)
            fail_msg("%s: progress %d, reason %s, message %s", name, (int)function.progress,
                     function.reason != NULL ? function.reason : "-",
                     function.message != NULL ? function.message : "-");
        backlog_function_release(&function);
        pgtest_sleep_ms(PAUSE_MS);
    }
}

void backlog_wait_known(struct backlog *backlog, const char *name)
{
    int64_t deadline_ms = clock_monotonic_ms() + BACKLOG_WAIT_MS;

    while (!backlog_load(backlog, "shop", name).known) {
        if (clock_monotonic_ms() > deadline_ms)
            fail_msg("%s is not known", name);
        pgtest_sleep_ms(PAUSE_MS);
    }
}

void backlog_wait_count(struct backlog *backlog, const char *name, int64_t due, int64_t dead)
{
    int64_t deadline_ms = clock_monotonic_ms() + BACKLOG_WAIT_MS, dead_now = 0, due_now = 0;

    for (;;) {
        struct backlog_function function;
        assert_true(backlog_read(backlog, "shop", name, &function));
        due_now = function.due;
        dead_now = function.triggers[0].dead;
        bool known = function.known;
        backlog_function_release(&function);
        if (known && due_now == due && dead_now == dead)
            return;
        if (clock_monotonic_ms() > deadline_ms)
            fail_msg("%s: due %lld, dead %lld", name, (long long)due_now, (long long)dead_now);
        pgtest_sleep_ms(PAUSE_MS);
    }
}

void backlog_wait_sql(struct backlog_world *world, const char *sql, const char *answer)
{
    int64_t deadline_ms = clock_monotonic_ms() + BACKLOG_WAIT_MS;

    for (;;) {
        CLEANUP_FREE char *now = session_answer(world->events->owner, sql);
        if (strcmp(now, answer) == 0)
            return;
        if (clock_monotonic_ms() > deadline_ms)
            fail_msg("%s: %s", sql, now);
        pgtest_sleep_ms(PAUSE_MS);
    }
}
