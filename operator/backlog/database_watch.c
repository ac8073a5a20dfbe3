/* The thread of a database: connects, keeps house, waits. */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "operator/backlog/backlog_internal.h"
#include "operator/queue/thread.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/text.h"
#include "runtime/base/version.h"
#include "runtime/schema/schema.h"

#define CONNECT_TIMEOUT_MS 5000
#define RECONNECT_MIN_MS   100
#define RECONNECT_MAX_MS   5000
#define SCHEMA_RETRY_MS    5000 /* somebody may have installed it */
#define SCHEMA_CALL_MS     20000
#define MAINTAIN_MS        1000
#define PURGE_MS           10000
#define PURGE_MOST         1000
#define PING_MS            15000
#define PING_LIMIT_MS                                                                                        \
    15000 /* with PING_MS and a call's time-out below 45 s, in which a dead listener is to be found */
#define APPLICATION_NAME "cicada backlog"

/* ---- problems ---- */

void problem_clear(const char **reason, char **message)
{
    *reason = NULL;
    free(steal_ptr(message));
}

void problem_set(const char **reason, char **message, const char *new_reason, const char *format, ...)
{
    va_list args;

    problem_clear(reason, message);
    *reason = new_reason;
    va_start(args, format);
    *message = format_text(BACKLOG_MESSAGE_MAX, format, args);
    va_end(args);
}

int64_t retry_after_ms(int attempts, int64_t most_ms)
{
    int64_t wait_ms = (int64_t)500 << (attempts < 16 ? attempts : 16);

    if (wait_ms > most_ms)
        wait_ms = most_ms;
    return random_from_half(wait_ms);
}

void watch_count_error(struct database_watch *watch, const char *what, const struct pg_error *error)
{
    metric_add(metric_family_get(watch->backlog->metrics.errors, (const char *const[]){what}), 1);
    log_debug("backlog: %s: %s %s", what, error->sqlstate, error->message);
}

/* ---- beginning and end ---- */

static struct database_watch *watch_new(struct backlog *backlog, const char *url, bool pooler,
                                        const char *key)
{
    size_t size = strlen(key) + 1;
    struct database_watch *watch = xcalloc(1, sizeof(*watch) + size);
    char id[17];

    memcpy(watch->key, key, size);
    watch->backlog = backlog;
    watch->url = xstrdup(url);
    watch->pooler = pooler;
    watch->server = pooler ? NULL : server_get_locked(backlog, url);
    watch->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    random_hex(id, (sizeof(id) - 1) / 2);
    snprintf(watch->channel, sizeof(watch->channel), "cicada_watch_%s", id);
    return watch;
}

static void watch_free(struct database_watch *watch)
{
    pg_session_close(watch->session);
    pg_pool_free(watch->pool);
    explicit_bzero(watch->url, strlen(watch->url));
    explicit_bzero(watch->key, strlen(watch->key));
    free(watch->url);
    close(watch->wake_fd);
    free(watch);
}

static char *key_of(const char *url, bool pooler)
{
    return xasprintf("%c%s", pooler ? 'p' : 'd', url);
}

struct database_watch *watch_find_locked(struct backlog *backlog, const char *url, bool pooler)
{
    CLEANUP_FREE char *key = key_of(url, pooler);
    struct database_watch *watch;

    HASH_FIND_STR(backlog->watches, key, watch);
    explicit_bzero(key, strlen(key));
    return watch;
}

struct database_watch *watch_get_locked(struct backlog *backlog, const char *url, bool pooler)
{
    CLEANUP_FREE char *key = key_of(url, pooler);
    struct database_watch *watch;

    HASH_FIND_STR(backlog->watches, key, watch);
    if (watch == NULL) {
        watch = watch_new(backlog, url, pooler, key);
        HASH_ADD_STR(backlog->watches, key, watch);
        backlog->threads++;
        /* Nobody waits for it: backlog_stop() counts. */
        pthread_detach(thread_start("backlog", watch_run, watch));
    }
    explicit_bzero(key, strlen(key));
    return watch;
}

void watch_changed_locked(struct database_watch *watch)
{
    watch->changed = true;
    (void)eventfd_write(watch->wake_fd, 1);
}

/* ---- the connection ---- */

static void note_away(struct database_watch *watch, const char *reason)
{
    bool is_new = false;

    pthread_mutex_lock(&watch->backlog->mu);
    if (watch->away_since_ms == 0) {
        watch->away_since_ms = clock_monotonic_ms();
        is_new = true;
    }
    snprintf(watch->away_reason, sizeof(watch->away_reason), "the database: %s", reason);
    pthread_mutex_unlock(&watch->backlog->mu);
    if (is_new)
        log_debug("backlog: a database is away: %s", reason);
}

static void note_here(struct database_watch *watch)
{
    pthread_mutex_lock(&watch->backlog->mu);
    watch->away_since_ms = 0;
    pthread_mutex_unlock(&watch->backlog->mu);
}

static void learn_server(struct database_watch *watch)
{
    struct pg_error error = {0};
    int max_connections;

    if (watch->pooler)
        return;
    if (store_max_connections(watch->session, &max_connections, &error) != 0) {
        watch_count_error(watch, "server", &error);
        return;
    }
    pthread_mutex_lock(&watch->backlog->mu);
    server_reached_locked(watch, max_connections);
    pthread_mutex_unlock(&watch->backlog->mu);
}

static void disconnect(struct database_watch *watch, const char *reason)
{
    pg_session_close(steal_ptr(&watch->session));
    watch_forget_session(watch);
    note_away(watch, reason);
}

int watch_new_pool(const struct database_watch *watch, const char *url, struct pg_pool **ret_pool,
                   struct err *err)
{
    const struct pg_pool_settings settings = {
        .url = url,
        .size = 1,
        .pooler = watch->pooler,
        .without_ldap = true,
        .remote_only = !watch->backlog->settings.allow_local_hosts,
        .connect_timeout_ms = CONNECT_TIMEOUT_MS,
        .application_name = APPLICATION_NAME,
    };

    return pg_pool_new(&settings, ret_pool, err);
}

static int make_pool(struct database_watch *watch)
{
    struct err err = ERR_INIT;

    if (watch->pool != NULL || watch_new_pool(watch, watch->url, &watch->pool, &err) == 0)
        return 0;
    note_away(watch, err.msg);
    return -1;
}

/* A pooler lets one log in though there is no server behind it: a database is here once it has answered something. */
static int greet(struct database_watch *watch, struct pg_error *error)
{
    int ignored;

    return watch->deaf ? store_max_connections(watch->session, &ignored, error)
                       : store_listen(watch->session, watch->channel, error);
}

static bool connect_database(struct database_watch *watch)
{
    struct pg_error error = {0};

    if (make_pool(watch) != 0)
        return false;
    watch->session = pg_session_open(watch->pool, &watch->backlog->stop, &error);
    if (watch->session == NULL) {
        watch_count_error(watch, "connect", &error);
        note_away(watch, error.message);
        return false;
    }
    watch->schema_ready = watch->heard_any = false;
    watch->schema_ms = watch->poll_ms = watch->awake_poll_ms = watch->maintain_ms = watch->pinged_ms = 0;
    watch->ping_ms = clock_monotonic_ms();
    watch->deaf = !pg_session_can_listen(watch->session);
    pg_session_set_result_max(watch->session, STORE_RESULT_MAX_BYTES);
    pg_session_on_notification(watch->session, watch_heard, watch);
    if (greet(watch, &error) != 0) {
        watch_count_error(watch, watch->deaf ? "connect" : "listen", &error);
        disconnect(watch, error.message);
        return false;
    }
    note_here(watch);
    learn_server(watch);
    return true;
}

/* A listener may be dead though the connection lives (a pooler that hands out another server's): it hears itself now and then. */
static void ping(struct database_watch *watch)
{
    int64_t now_ms = clock_monotonic_ms();
    struct pg_error error = {0};

    if (watch->deaf || now_ms < watch->ping_ms)
        return;
    watch->ping_ms = now_ms + PING_MS;
    if (watch->pinged_ms != 0) {
        if (now_ms - watch->pinged_ms < PING_LIMIT_MS)
            return;
        watch_count_error(watch, "hear", &error);
        if (watch->heard_any) {
            disconnect(watch, "notifications do not come any more");
        } else {
            log_warn("backlog: notifications do not come through from a database: it is polled");
            watch->deaf = true;
        }
        return;
    }
    watch->pinged_ms = now_ms;
    if (store_notify(watch->session, watch->channel, &error) != 0)
        watch_count_error(watch, "notify", &error);
}

/* Longer from time to time, up to a limit, half of it by chance. False: the watch is to end. */
static bool pause_before_connect(struct database_watch *watch)
{
    int64_t pause_ms = watch->reconnect_ms * 2;
    eventfd_t ignored;
    int ready = 1;

    if (pause_ms < RECONNECT_MIN_MS)
        pause_ms = RECONNECT_MIN_MS;
    if (pause_ms > RECONNECT_MAX_MS)
        pause_ms = RECONNECT_MAX_MS;
    watch->reconnect_ms = pause_ms;
    int64_t until_ms = clock_monotonic_ms() + random_from_half(pause_ms);
    while (ready != 0 && watch_take(watch)) {
        struct pollfd fds[] = {
            {.fd = watch->wake_fd, .events = POLLIN},
            {.fd = stop_fd(&watch->backlog->stop), .events = POLLIN},
        };
        watch_tell(watch);
        ready = poll(fds, ARRAY_SIZE(fds), deadline_left_ms(until_ms));
        (void)eventfd_read(watch->wake_fd, &ignored);
    }
    return ready == 0;
}

/* ---- the schema ---- */

static void note_schema(struct database_watch *watch, const char *message)
{
    pthread_mutex_lock(&watch->backlog->mu);
    watch->schema_missing = message != NULL;
    snprintf(watch->schema_message, sizeof(watch->schema_message), "%s", message != NULL ? message : "");
    pthread_mutex_unlock(&watch->backlog->mu);
}

/* By connections of its own, which it needs but once. */
static bool install_schema(struct database_watch *watch, struct pg_error *error)
{
    struct schema_view view;
    char message[BACKLOG_MESSAGE_MAX];
    struct err err = ERR_INIT;
    struct pg_pool *pool;

    if (watch_new_pool(watch, watch->url, &pool, &err) != 0)
        return false;
    pg_pool_start(pool);
    int rc = schema_ensure(pool, CICADA_VERSION, clock_monotonic_ms() + SCHEMA_CALL_MS, &view, error);
    pg_pool_free(pool);
    if (rc != 0)
        return false;
    if (view.state == SCHEMA_READY)
        return true;
    schema_explain(&view, CICADA_VERSION, message, sizeof(message));
    note_schema(watch, message);
    return false;
}

/* Where there is no schema nothing of ours can be: triggers go with the functions that they call. True: there is no more to do. */
static bool nothing_to_remove(struct database_watch *watch)
{
    bool others = false;

    for (struct work *work = watch->works; work != NULL; work = work->next) {
        work->cleaned = work->cleaned || work->removing;
        others = others || !work->removing;
    }
    return !others;
}

static void check_schema(struct database_watch *watch)
{
    char min_runtime[SCHEMA_RELEASE_SIZE];
    struct pg_error error = {0};
    bool absent;
    int version;

    if (watch->schema_ready || clock_monotonic_ms() < watch->schema_ms)
        return;
    watch->schema_ms = clock_monotonic_ms() + SCHEMA_RETRY_MS;
    if (store_version(watch->session, &version, min_runtime, sizeof(min_runtime), &absent, &error) != 0) {
        watch_count_error(watch, "schema", &error);
        return;
    }
    if (absent && nothing_to_remove(watch))
        return;
    watch->schema_ready =
        (version >= SCHEMA_VERSION && schema_compare_releases(CICADA_VERSION, min_runtime) >= 0) ||
        install_schema(watch, &error);
    if (watch->schema_ready)
        note_schema(watch, NULL);
    else if (error.failure != PG_FAILURE_NONE)
        watch_count_error(watch, "schema", &error);
}

/* ---- the loop ---- */

/* While nobody else does it, which consumers do. */
static void maintain(struct database_watch *watch)
{
    int64_t now_ms = clock_monotonic_ms();
    struct pg_error error = {0};
    bool asleep = false;

    for (const struct work *work = watch->works; work != NULL; work = work->next)
        asleep = asleep || !work->awake;
    if (!asleep)
        return;
    if (now_ms >= watch->maintain_ms) {
        watch->maintain_ms = now_ms + MAINTAIN_MS;
        if (store_maintain(watch->session, &error) != 0)
            watch_count_error(watch, "maintain", &error);
    }
    if (now_ms >= watch->purge_ms && !pg_session_is_lost(watch->session)) {
        watch->purge_ms = now_ms + PURGE_MS;
        if (store_purge(watch->session, PURGE_MOST, &error) != 0)
            watch_count_error(watch, "purge", &error);
    }
}

static void turn(struct database_watch *watch)
{
    check_schema(watch);
    if (!watch->schema_ready)
        return;
    watch_settle(watch);
    if (!pg_session_is_lost(watch->session))
        watch_tick(watch);
    if (!pg_session_is_lost(watch->session))
        watch_poll(watch);
    if (!pg_session_is_lost(watch->session))
        maintain(watch);
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void wait_for_more(struct database_watch *watch)
{
    int64_t until_ms = clock_monotonic_ms() + BACKLOG_POLL_MS;
    eventfd_t ignored;

    if (watch->schema_ready) {
        until_ms = least(until_ms, watch->poll_ms);
        until_ms = least(until_ms, watch_next_settle_ms(watch));
        until_ms = least(until_ms, watch_next_tick_ms(watch));
    }
    (void)pg_session_wait(watch->session, watch->wake_fd, until_ms);
    (void)eventfd_read(watch->wake_fd, &ignored);
}

/* state NULL: it ends. */
static void count_as(struct database_watch *watch, const char *state)
{
    struct metric_family *watches = watch->backlog->metrics.watches;

    if (watch->counted_as == state)
        return;
    if (watch->counted_as != NULL)
        metric_add(metric_family_get(watches, &watch->counted_as), -1);
    watch->counted_as = state;
    if (state != NULL)
        metric_add(metric_family_get(watches, &watch->counted_as), 1);
}

void *watch_run(void *arg)
{
    struct database_watch *watch = arg;
    struct backlog *backlog = watch->backlog;

    while (watch_take(watch)) {
        if (watch->session == NULL && !connect_database(watch)) {
            count_as(watch, "away");
            if (!pause_before_connect(watch))
                break;
            continue;
        }
        count_as(watch, watch->deaf ? "polling" : "listening");
        turn(watch);
        if (watch->session != NULL && !pg_session_is_lost(watch->session))
            ping(watch);
        if (watch->session != NULL && pg_session_is_lost(watch->session))
            disconnect(watch, "the connection was lost");
        watch_tell(watch);
        if (watch->session != NULL)
            wait_for_more(watch);
    }
    watch_release_works(watch);
    count_as(watch, NULL);
    watch_free(watch);
    pthread_mutex_lock(&backlog->mu);
    backlog->threads--;
    pthread_cond_signal(&backlog->thread_ended);
    pthread_mutex_unlock(&backlog->mu);
    return NULL;
}
