/* fleet_function.h - one Function of the fleet and its processes. Internal to fleet.c and fleet_function.c.
 *
 * function_reconcile() is the one place where processes are started and ended; everything else changes what is wanted, or notes what
 * happened, and calls it.
 */
#ifndef CICADA_LOCAL_FLEET_FUNCTION_H
#define CICADA_LOCAL_FLEET_FUNCTION_H

#include <pthread.h>

#include "operator/local/fleet.h"

LIST_HEAD(replica_list, replica);

/* What the database of a Function says of its triggers. */
struct fleet_events {
    bool watched;                    /* the backlog has it, until its triggers are removed */
    bool removing;                   /* they are about to be */
    bool awake;                      /* as the backlog was told */
    char state[REPLICA_REASON_SIZE]; /* why its triggers don't work; empty: nothing is known */
    char *problem;                   /* what was last said about that */
};

struct fleet_function {
    UT_hash_handle hh; /* key: "namespace/name" */
    TAILQ_ENTRY(fleet_function) due_link;
    struct fleet *fleet;
    char *key;
    struct function_spec *spec;
    struct launch *launch;             /* what it is started with; NULL: it can't be */
    char failure[REPLICA_REASON_SIZE]; /* why it can't serve; empty: nothing is known */
    char *message;                     /* what was last said about that */
    int desired;
    struct replica_list replicas; /* the youngest first */
    int last_number;
    int failures;            /* in a row */
    struct loop_timer retry; /* set: not before */
    bool is_due;             /* changed, and to be tried */
    bool removed;
    struct fleet_events events; /* fleet_events.c */
};

struct fleet {
    struct fleet_settings settings;
    struct replica_platform platform;
    struct gateway *gateway;
    struct scaler *scaler;
    struct backlog *backlog;
    struct gateway_report *before, *now; /* what the gateway said in the last two passes */
    int64_t read_ms;
    struct loop_timer tick;
    struct fleet_function *functions; /* by key */
    struct replica *replicas;         /* all, by uid */
    TAILQ_HEAD(, fleet_function) due;
    int starting;
    bool started, stopping;
    char *announce_address, *database_url;
    void (*done)(void *arg);
    void *done_arg;
    pthread_mutex_t mu;                      /* a leaf */
    struct fleet_wish *wishes, **wishes_end; /* guarded by mu: what other threads ask for, in order */
    struct loop_post wished;
    bool is_posted; /* guarded by mu */
};

struct fleet_function *fleet_function_new(struct fleet *fleet, const char *key);
void fleet_function_set_spec(struct fleet_function *function, struct function_spec *spec);
void fleet_function_refresh(struct fleet_function *function);
void fleet_function_remove(struct fleet_function *function);
void fleet_function_wake(struct fleet_function *function);
void fleet_function_scale(struct fleet_function *function, int replicas);
void fleet_function_serves(struct fleet_function *function, struct replica *replica);
void fleet_function_stop(struct fleet_function *function);
void fleet_function_free(struct fleet_function *function);
void fleet_function_try(struct fleet_function *function);
void fleet_function_delayed(void *arg, const struct replica *replica);
void fleet_function_line(void *arg, const struct replica *replica, const char *text, size_t len);
void fleet_function_ended(void *arg, struct replica *replica, const struct replica_end *end);
int fleet_function_serving(const struct fleet_function *function);
bool fleet_function_is_settled(const struct fleet_function *function);
const char *fleet_function_state(const struct fleet_function *function);

/* fleet_events.c: its spec or its Secrets may have changed. */
void fleet_events_refresh(struct fleet_function *function);
/* Some process of it is there to work on events, or none is. */
void fleet_events_set_awake(struct fleet_function *function, bool awake);
bool fleet_events_are_settled(const struct fleet_function *function);
/* Its triggers are taken out of the database; it stays, removed, until they are. Not while a process of it may ask for them. */
void fleet_events_remove(struct fleet_function *function);
/* The backlog would tell something new. */
void fleet_events_changed(struct fleet_function *function);
void fleet_events_read(const struct fleet_function *function, struct fleet_row *row);
void fleet_events_release(struct fleet_events *events);

/* fleet.c: after anything that may let a changed Function be tried, or was the last process. */
void fleet_look_around(struct fleet *fleet);
/* A Function that was removed goes with its last process and its last trigger. */
void fleet_forget_if_over(struct fleet_function *function);

#endif
