#include "runtime/tests/support_event_scene.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/tests/support_postgres.h"

void scene_start(struct scene *scene, const char *what, const char *more, const char *triggers)
{
    scene_start_at(scene, scene->events->guest_url, what, more, triggers);
}

void scene_start_at(struct scene *scene, const char *url, const char *what, const char *more,
                    const char *triggers)
{
    CLEANUP_FREE char *spec = xasprintf("{%s,\"timeoutSeconds\":2,\"database\":{\"poolSize\":4%s},"
                                        "\"triggers\":[%s]}",
                                        what, more, triggers);
    const struct runtime_process_settings settings = {
        .functions = "test-functions", .spec = spec, .database_url = url};

    runtime_process_start(&scene->process, &settings, /* serving= */ true);
}

int scene_setup(void **state)
{
    struct scene *scene = xcalloc(1, sizeof(*scene));
    void *events;

    assert_int_equal(events_setup(&events), 0);
    scene->events = events;
    session_exec(scene->events->owner,
                 "CREATE SCHEMA event_test; GRANT USAGE ON SCHEMA event_test TO " EVENTS_GUEST ";"
                 "CREATE TABLE event_test.notes (id bigserial, text text UNIQUE, request_id text,"
                 " depth text DEFAULT current_setting('cicada.depth', true), at timestamptz DEFAULT "
                 "clock_timestamp());"
                 "GRANT ALL ON event_test.notes TO " EVENTS_GUEST ";"
                 "GRANT ALL ON SEQUENCE event_test.notes_id_seq TO " EVENTS_GUEST);
    *state = scene;
    return 0;
}

int scene_teardown(void **state)
{
    struct scene *scene = *state;
    void *events = scene->events;

    runtime_process_release(&scene->process);
    assert_int_equal(events_teardown(&events), 0);
    free(scene);
    return 0;
}

void scene_send(struct scene *scene, const char *payload)
{
    CLEANUP_FREE char *sql = xasprintf("SELECT cicada.enqueue('q', $payload$%s$payload$)", payload);

    session_exec(scene->events->a, sql);
}

struct wish {
    PGconn *session;
    const char *sql, *answer;
};

static bool is_fulfilled(void *arg)
{
    const struct wish *wish = arg;
    CLEANUP_FREE char *answer = session_answer(wish->session, wish->sql);

    return strcmp(answer, wish->answer) == 0;
}

void scene_becomes(struct scene *scene, const char *sql, const char *answer)
{
    struct wish wish = {scene->events->owner, sql, answer};

    wait_until(is_fulfilled, &wish, sql);
}

static bool is_logged(void *arg)
{
    const struct wish *wish = arg;
    CLEANUP_FREE char *log = runtime_process_read(wish->sql);

    return strstr(log, wish->answer) != NULL;
}

void scene_becomes_logged(struct scene *scene, const char *text)
{
    struct wish wish = {NULL, scene->process.log_path, text};

    wait_until(is_logged, &wish, text);
}

void scene_expire_leases(struct scene *scene)
{
    session_exec(scene->events->owner,
                 "DO $$ BEGIN FOR i IN 0 .. 4 LOOP EXECUTE format('UPDATE cicada.event_%s SET due_at = now()"
                 " WHERE lane = 127', i); END LOOP; END $$");
}
