/* support_backlog.h - a backlog on a database of a test's own (support_events.h), and what it has told. A failure fails the test. */
#ifndef CICADA_TESTS_SUPPORT_BACKLOG_H
#define CICADA_TESTS_SUPPORT_BACKLOG_H

#include <pthread.h>
#include <stdatomic.h>

#include "operator/backlog/backlog.h"
#include "operator/tests/support_function.h"
#include "runtime/tests/support_events.h"

#define BACKLOG_WAIT_MS 30000
#define BACKLOG_TOLD    8

struct backlog_world {
    struct event_fixture *events;
    struct metrics *metrics;
    struct backlog *backlog;
    pthread_mutex_t mu;
    char told[BACKLOG_TOLD][64]; /* names of Functions that were told to be due, each once */
    int64_t told_ms[BACKLOG_TOLD];
    size_t told_count;
    atomic_int changes;
};

/* For cmocka: a database for the group, which each test begins with empty, and *state becomes a struct backlog_world. */
int backlog_group_setup(void **state);
int backlog_group_teardown(void **state);
int backlog_setup(void **state);
int backlog_setup_bare(void **state); /* without a database: events is NULL */
int backlog_teardown(void **state);

/* Another backlog of the same database, which tells the same. */
struct backlog *backlog_make(struct backlog_world *world, bool allow_local_hosts);

/* A Function in shop of that name with these triggers (YAML, a flow sequence), at this URL (NULL: the guest's). */
void backlog_want(struct backlog_world *world, struct backlog *backlog, const char *name,
                  const char *triggers, const char *url);
void backlog_want_owner(struct backlog_world *world, const char *name, const char *triggers,
                        const char *owner_url);
/* With database.pooler: Transaction. */
void backlog_want_pooled(struct backlog_world *world, const char *name, const char *triggers,
                         const char *url);
/* Without triggers. */
void backlog_use_of(struct backlog_world *world, const char *name, const char *pooler, const char *url);
void backlog_unwant(struct backlog_world *world, const char *name, const char *triggers);

/* Until it is so. */
void backlog_wait_due(struct backlog_world *world, const char *name);
void backlog_forget_due(struct backlog_world *world);
bool backlog_was_due(struct backlog_world *world, const char *name);
void backlog_wait_progress(struct backlog *backlog, const char *name, enum backlog_progress progress,
                           const char *reason, const char *message_part);
void backlog_wait_known(struct backlog *backlog, const char *name);
void backlog_wait_count(struct backlog *backlog, const char *name, int64_t due, int64_t dead);
void backlog_wait_sql(struct backlog_world *world, const char *sql, const char *answer);

#endif
