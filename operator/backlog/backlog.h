/* backlog.h - what waits for Functions in their databases, and what of theirs lies there: queues, schedules, table triggers.
 *
 * One watch per database URL: a thread and a connection, which LISTENs, polls once a second, ticks schedules, installs and removes table
 * triggers. The database is the truth; what is told here is at most some seconds old, or not known. A database that is away makes figures
 * unknown, never zero, so that nobody is put to sleep over events that can't be seen.
 *
 * Any number of operators may do this for the same Function at once: the database sees to it that a tick is one event.
 *
 * Threads: any function from any thread; none waits for a database, but backlog_stop().
 */
#ifndef CICADA_BACKLOG_BACKLOG_H
#define CICADA_BACKLOG_BACKLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "operator/backlog/connection_budget.h"
#include "runtime/base/metrics.h"

struct backlog;
struct function_spec;

struct backlog_settings {
    bool allow_local_hosts;         /* loopback, link-local and Unix sockets: cicada-local */
    const char *zoneinfo_directory; /* NULL: TIME_ZONE_DIRECTORY. Must outlive the backlog */
    /* Both: any thread; must return soon, and not call back into the backlog. NULL: nobody wants to know. */
    /* An event is due and nobody consumes, or may be: wake it if it sleeps. Repeated each second while it is so. */
    void (*due)(void *arg, const char *namespace, const char *name);
    /* backlog_read() would tell something that people should see: problems, next run, figures (those at most every 10 s per Function; ages as
     * backlog_shown_age_s() has them). */
    void (*changed)(void *arg, const char *namespace, const char *name);
    void *arg;
};

struct backlog *backlog_new(const struct backlog_settings *settings,
                            struct metrics *metrics); /* metrics: borrowed */
/* Ends the threads, within a second or two; nothing in databases is changed. */
void backlog_stop(struct backlog *backlog);
/* False: a thread still hangs (libpq resolves names without a time limit), and the metrics must stay; it calls nobody back any more.
 * NULL is fine. */
bool backlog_free(struct backlog *backlog);

/* From now on this Function's triggers are watched, installed and ticked; one without triggers is looked at once, for what is left of
 * earlier ones. Takes a reference to the spec. owner_url NULL: url. Cheap when nothing differs from the call before. */
void backlog_set(struct backlog *backlog, struct function_spec *spec, const char *url, const char *owner_url);
/* If this URL leads to another database than the one that is watched now for this Function (host, port or name differ): SQL that removes
 * there, by the hand of a person, what was installed for its triggers. Else NULL, also if nothing is watched. To be asked before
 * backlog_set(), which begins anew with the other one. The caller frees it. */
char *backlog_left_behind(struct backlog *backlog, const char *namespace, const char *name, const char *url);
/* The Function goes: its triggers are removed from the database in the background; backlog_read() tells how far that is. url NULL: with
 * the last known one. If none is known, it is a PROBLEM, DatabaseUnreachable. */
void backlog_remove(struct backlog *backlog, struct function_spec *spec, const char *url,
                    const char *owner_url);
/* It has no triggers, and its database is that of this URL: it counts among the users of its server, while a watch of that very URL has
 * reached it. It is watched no more, makes no watch and keeps none. url NULL: not known, and it counts nowhere. */
void backlog_use(struct backlog *backlog, const struct function_spec *spec, const char *url);
/* Whether any database is watched: else nobody needs to find a URL for backlog_use(). */
bool backlog_has_watches(struct backlog *backlog);
/* It is no longer watched, nor counted; nothing is changed in its database. */
void backlog_forget(struct backlog *backlog, const char *namespace, const char *name);
/* Whether it is awake. While it sleeps (so it begins), its queues are listened for with the hint (queue_sleep); else its consumers do that
 * themselves. */
void backlog_set_awake(struct backlog *backlog, const char *namespace, const char *name, bool awake);

enum backlog_progress {
    BACKLOG_WORKING, /* not known yet, or not removed yet */
    BACKLOG_READY,
    BACKLOG_PROBLEM, /* it is tried again, for ever */
    BACKLOG_REMOVED,
};

#define BACKLOG_TRIGGERS_MAX 16

struct backlog_trigger {
    const char *name;
    bool known; /* the figures are of the last 5 s */
    int64_t due, delayed, leased, blocked, dead;
    bool capped;        /* counts end at 10,000, and one has got there */
    double oldest_s;    /* how long the oldest due event has been due; 0: none is */
    int64_t next_run_s; /* Unix time; 0: none */
};

struct backlog_function {
    enum backlog_progress progress;
    /* Of PROBLEM: DatabaseUnreachable, SchemaMissing, NotTableOwner, QueueConflict, InvalidSpec; NULL: there is none. The message names
     * trigger and cause, and the SQL to run where there is one; never a value of the URL. */
    char *reason, *message;
    char *cleanup_sql; /* while it is removed and that does not come about; NULL: not known, or not needed */
    int64_t unreachable_ms; /* how long the database has been so; 0: it is not */
    bool url_unknown;       /* so there is nothing that could be tried */
    struct backlog_trigger triggers[BACKLOG_TRIGGERS_MAX]; /* as in the spec */
    size_t trigger_count;
    bool known;                           /* those of all triggers are */
    int64_t due, in_progress;             /* sums */
    struct connection_budget connections; /* of its server. Zeroes: not known */
    int64_t own_connections;              /* its part of connections.needed */
    int wanted;                           /* replicas that the backlog asks for; see autoscaler/README.md */
    struct function_spec *spec;           /* a reference, which the names are borrowed from */
};

/* An age as people see it: to 10 seconds, from a minute on to the minute, from an hour on to the hour. So an event that nobody takes is no
 * reason to tell something new each time that somebody looks. */
int64_t backlog_shown_age_s(double age_s);

/* False: it is not set. Else the caller releases *ret. */
bool backlog_read(struct backlog *backlog, const char *namespace, const char *name,
                  struct backlog_function *ret);
void backlog_function_release(struct backlog_function *function);

/* The same for the autoscaler: cheap, no allocation. */
struct backlog_load {
    bool any_triggers, known;
    int64_t due, in_progress;
    double oldest_s;
    int wanted;  /* replicas for what is due */
    int held;    /* replicas for what is due and what is at work */
    bool busy;   /* something is due or at work, or was a moment ago */
    bool behind; /* what is due has been so for more than a moment: consumers do not keep up */
};
struct backlog_load backlog_load(struct backlog *backlog, const char *namespace, const char *name);

#endif
