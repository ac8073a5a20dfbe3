/* support_event_scene.h - the real runtime with a handler of events (runtime/tests/handlers/event.c), on a database of the test's own.
 *
 * A failure fails the test.
 */
#ifndef CICADA_TESTS_SUPPORT_EVENT_SCENE_H
#define CICADA_TESTS_SUPPORT_EVENT_SCENE_H

#include "runtime/tests/support_events.h"
#include "runtime/tests/support_runtime.h"

#define SCENE_HANDLER "\"handler\":\"event.so:handle_event\""
#define SCENE_NOTES   "SELECT count(*) FROM event_test.notes"
#define SCENE_STATS   "SELECT (SELECT count(*) FROM cicada.event), (SELECT count(*) FROM cicada.dead_letter)"

struct scene {
    struct event_fixture *events;
    struct runtime_process process;
};

/* For cmocka: *state becomes a struct scene, with table event_test.notes and without a process. */
int scene_setup(void **state);
int scene_teardown(void **state);

/* what: the handler, and more members of the spec; more: members of `database`, each with a comma before it. */
void scene_start(struct scene *scene, const char *what, const char *more, const char *triggers);
/* The same by another way to its database. */
void scene_start_at(struct scene *scene, const char *url, const char *what, const char *more,
                    const char *triggers);

void scene_send(struct scene *scene, const char *payload); /* to queue q */
/* Waits until the owner's question is answered so. */
void scene_becomes(struct scene *scene, const char *sql, const char *answer);
void scene_becomes_logged(struct scene *scene, const char *text);
/* As if 30 s had passed. */
void scene_expire_leases(struct scene *scene);

#endif
