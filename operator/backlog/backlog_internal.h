/* backlog_internal.h - for the files of backlog: what is set and told of a Function, and the watch of a database.
 *
 * A Function is in two places. struct watched, in the table of the backlog, is what callers set and what they are told; backlog->mu guards it.
 * struct work is the watch's own, touched by its thread only: what was done of what is wanted. The thread takes what is wanted under the lock
 * (watch_take), does I/O without it, and tells under it, if what it worked for is still wanted (the revision).
 *
 * Locks: backlog->mu is taken before those of the metrics, and no others: no I/O and no callback while it is held.
 */
#ifndef CICADA_BACKLOG_BACKLOG_INTERNAL_H
#define CICADA_BACKLOG_BACKLOG_INTERNAL_H

#include <pthread.h>

#include "operator/backlog/backlog.h"
#include "operator/backlog/backlog_store.h"
#include "operator/function/function_spec.h"
#include "operator/schedule/schedule.h"
#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/base/stop.h"

#define uthash_malloc(size) xmalloc(size)
#include <uthash.h>

#define BACKLOG_POLL_MS        1000
#define BACKLOG_KNOWN_MS       5000 /* figures that are older are not known */
#define BACKLOG_UNREACHABLE_MS 3000 /* away for so long: it is said */
#define BACKLOG_MESSAGE_MAX    1024

#define BACKLOG_UNREACHABLE    "DatabaseUnreachable"
#define BACKLOG_SCHEMA_MISSING "SchemaMissing"
#define BACKLOG_NOT_OWNER      "NotTableOwner"
#define BACKLOG_QUEUE_CONFLICT "QueueConflict"
#define BACKLOG_INVALID        "InvalidSpec"

struct database_watch;

/* Guarded by backlog->mu. */
struct database_server {
    UT_hash_handle hh;
    int watches;
    struct connection_budget budget; /* ours: a connection of each watch that has reached it */
    char key[];
};

/* What a trigger's queue holds. */
struct figures {
    int64_t due, delayed, leased, blocked, dead;
    bool capped;
    double oldest_s;
    int64_t read_ms; /* monotonic; 0: never */
};

struct watched {
    UT_hash_handle hh; /* key: namespace/name */
    int refs;          /* the table's, and those of work */
    /* Wanted. */
    struct function_spec *spec;
    struct database_watch *watch; /* NULL: no URL is known, or it is forgotten */
    struct watched *next;         /* of that watch */
    struct work *work;            /* of that watch's thread; NULL: not taken yet */
    char *owner_url;              /* NULL: the same */
    bool removing, awake;
    struct database_server *server; /* among whose users it counts; NULL: of none */
    int64_t connections;            /* that it counts for there */
    uint64_t revision;              /* raised with each change of what the watch has to do */
    /* Told. */
    uint64_t settled; /* the revision for which all is done */
    const char *
        reason; /* of a problem; NULL with a message: it is at work on something that does not come about at once */
    char *message; /* NULL: none */
    struct figures figures[FUNCTION_TRIGGERS_MAX];
    int64_t next_run_s[FUNCTION_TRIGGERS_MAX];
    int64_t heard_ms; /* monotonic: a notification came for one of its queues; 0: none yet */
    uint64_t shown_hash, shown_figures_hash; /* of what was said to be changed last */
    int64_t shown_figures_ms;
    char key[];
};

struct backlog_metrics {
    struct metric_family *due, *delayed, *in_progress, *dead, *oldest, *ticks, *errors, *watches;
};

struct backlog {
    struct backlog_settings settings;
    struct backlog_metrics metrics;
    struct stop stop;
    pthread_mutex_t mu;
    struct watched *functions;
    struct database_watch *watches;
    struct database_server *servers;
    struct database_user *users; /* Functions without triggers; none of them is in `functions` */
    int threads;
    pthread_cond_t thread_ended;
};

/* ---- what the watch's thread knows ---- */

struct work_trigger {
    struct work *work;
    const struct function_trigger *wanted;
    size_t number;
    struct store_trigger who;
    char queue[STORE_QUEUE_SIZE]; /* "": not asked yet */
    int queue_id;                 /* 0: not known */
    UT_hash_handle by_queue;
    struct work_trigger *same_queue; /* others that want it, which are refused it */
    bool heard;                      /* a notification came for its queue: it is counted at once */
    bool answered;                   /* in the call of this moment */
    struct figures figures;
    /* Bringing it about. */
    bool done;
    int64_t retry_ms; /* not before */
    int attempts;
    const char *reason; /* as in struct watched */
    char *message;
    /* Of a schedule. */
    struct schedule schedule;
    struct time_zone *zone;
    char *expression;
    int64_t next_run_s, tick_ms; /* monotonic: when it is looked at next */
};

struct work {
    struct watched *watched; /* a reference */
    struct work *next;
    uint64_t revision, settled;
    struct function_spec *spec; /* a reference */
    char *owner_url;
    bool removing, awake;
    bool gone;    /* no longer of this watch */
    bool cleaned; /* nothing of it is in the database that the spec does not want */
    int64_t clean_retry_ms;
    int clean_attempts;
    const char *reason; /* of cleaning */
    char *message;
    int64_t heard_ms; /* as in struct watched */
    struct work_trigger triggers[FUNCTION_TRIGGERS_MAX];
    size_t trigger_count;
};

struct database_watch {
    UT_hash_handle hh;
    struct backlog *backlog;
    char *url;
    bool pooler;
    int wake_fd;
    /* Guarded by backlog->mu. */
    struct watched *members;
    bool changed;          /* members, or what they want */
    int64_t away_since_ms; /* monotonic; 0: it is reachable, or not tried yet */
    char away_reason[128];
    struct database_server *server; /* NULL: a pooler, or the URL can't be read */
    bool reached;                   /* the server, once */
    bool schema_missing;
    char schema_message[BACKLOG_MESSAGE_MAX];
    /* The thread's own. */
    struct pg_pool *pool; /* lends nothing; of the session */
    struct pg_session *session;
    struct work *works;
    struct work_trigger *queues; /* by name; queues_changed: to be made anew */
    bool queues_changed, any_heard;
    int64_t reconnect_ms; /* the last pause */
    bool schema_ready, heard_any;
    int64_t schema_ms, maintain_ms, purge_ms;
    int64_t poll_ms, awake_poll_ms; /* the next one, of all that sleep, and of the others */
    char channel[48];
    int64_t ping_ms, pinged_ms; /* the next one; 0, or the one that was not heard yet */
    bool deaf;                  /* notifications do not come: it polls only */
    const char *counted_as;     /* in the metric of watches */
    char key[];
};

/* backlog.c */
void watched_unref_locked(struct watched *watched);
void watched_describe_locked(const struct watched *watched, int64_t now_ms, struct backlog_function *ret);

/* database_server.c */
struct database_server *server_get_locked(struct backlog *backlog, const char *url);
void server_put_locked(struct backlog *backlog, struct database_server *server); /* NULL is fine */
struct connection_user server_user(const struct function_spec *spec);
void server_count_locked(struct watched *watched); /* after any change of it */
void server_reached_locked(struct database_watch *watch, int max_connections);
void server_leave_locked(struct database_watch *watch);

/* Both can be read, and name the same host, port and database. */
bool server_urls_agree(const char *a, const char *b);

/* backlog.c: of the tables of Functions. The caller frees it. */
char *function_key(const char *namespace, const char *name);

/* database_users.c */
void user_set_locked(struct backlog *backlog, const struct function_spec *spec, const char *url);
void user_forget_locked(struct backlog *backlog, const char *namespace, const char *name);
/* Those of this watch's URL count there from now on; NULL: nowhere. */
void users_count_locked(struct database_watch *watch, struct database_server *server);
void users_free(struct backlog *backlog);

/* database_watch.c. A watch begins with its first member; without members its thread ends, and the watch with it. */
struct database_watch *watch_find_locked(struct backlog *backlog, const char *url, bool pooler); /* NULL */
struct database_watch *watch_get_locked(struct backlog *backlog, const char *url, bool pooler);
void watch_changed_locked(struct database_watch *watch);
void *watch_run(void *arg);
/* For this URL, as the spec says of the Function's own: a pooler before that one is most likely before the owner's, too. */
int watch_new_pool(const struct database_watch *watch, const char *url, struct pg_pool **ret_pool,
                   struct err *err) MUST_CHECK;
void watch_count_error(struct database_watch *watch, const char *what, const struct pg_error *error);
/* A problem of a trigger or of cleaning: replaces the one before. reason NULL with a message: it is at work. */
void problem_set(const char **reason, char **message, const char *new_reason, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void problem_clear(const char **reason, char **message);
int64_t retry_after_ms(int attempts, int64_t most_ms);

/* watch_poll.c */
/* Those that are due, and those that were heard of. */
void watch_poll(struct database_watch *watch);
void watch_heard(void *arg, const char *payload);

/* watch_work.c */
bool watch_take(struct database_watch *watch); /* false: it is to end */
void watch_tell(struct database_watch *watch);
void watch_forget_session(struct database_watch *watch);
void watch_release_works(struct database_watch *watch);

/* trigger_install.c: brings about what is due of it, on the watch's session and those of tables' owners. */
void watch_settle(struct database_watch *watch);
int64_t watch_next_settle_ms(const struct database_watch *watch);
/* Its problem is what the error means to people. session: the one that it happened on; NULL: it could not be opened. */
void watch_trigger_failed(struct database_watch *watch, struct work_trigger *trigger, const char *what,
                          const struct pg_error *error, const struct pg_session *session);

/* tick.c */
bool tick_prepare(struct database_watch *watch,
                  struct work_trigger *trigger); /* false: its problem says why */
void watch_tick(struct database_watch *watch);
int64_t watch_next_tick_ms(const struct database_watch *watch);
void tick_release(struct work_trigger *trigger);

#endif
