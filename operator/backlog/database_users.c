/* Functions without triggers: nothing of theirs is watched, but their replicas have connections, too. What is proof that they use a server
 * is a watch of their very URL that has reached it: functions of one application share a Secret. */
#include <string.h>

#include "operator/backlog/backlog_internal.h"
#include "runtime/base/text.h"

/* Guarded by backlog->mu. */
struct database_user {
    UT_hash_handle hh;              /* key: namespace/name */
    char *url;                      /* of no pooler: such a Function is none of these */
    int64_t connections;            /* at most */
    struct database_server *server; /* among whose users it counts; NULL: of none */
    char key[];
};

static struct database_user *find_locked(struct backlog *backlog, const char *namespace, const char *name)
{
    CLEANUP_FREE char *key = function_key(namespace, name);
    struct database_user *user;

    HASH_FIND_STR(backlog->users, key, user);
    return user;
}

static struct database_user *make_locked(struct backlog *backlog, const struct function_spec *spec)
{
    CLEANUP_FREE char *key = function_key(spec->namespace, spec->name);
    size_t size = strlen(key) + 1;
    struct database_user *user = xcalloc(1, sizeof(*user) + size);

    memcpy(user->key, key, size);
    HASH_ADD_STR(backlog->users, key, user);
    return user;
}

static void free_url(struct database_user *user)
{
    if (user->url != NULL)
        explicit_bzero(user->url, strlen(user->url));
    free(steal_ptr(&user->url));
}

static void count_at_locked(struct database_user *user, struct database_server *server)
{
    if (user->server != NULL) {
        user->server->budget.needed -= user->connections;
        user->server->budget.function_count--;
    }
    user->server = server;
    if (server != NULL) {
        server->budget.needed += user->connections;
        server->budget.function_count++;
    }
}

static struct database_server *proven_locked(struct backlog *backlog, const char *url)
{
    const struct database_watch *watch = watch_find_locked(backlog, url, /* pooler= */ false);

    return watch != NULL && watch->reached ? watch->server : NULL;
}

static void drop_locked(struct backlog *backlog, struct database_user *user)
{
    count_at_locked(user, NULL);
    /* What is freed is in the table no more. NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
    HASH_DEL(backlog->users, user);
    free_url(user);
    free(user);
}

void user_forget_locked(struct backlog *backlog, const char *namespace, const char *name)
{
    struct database_user *user = find_locked(backlog, namespace, name);

    if (user != NULL)
        drop_locked(backlog, user);
}

void user_set_locked(struct backlog *backlog, const struct function_spec *spec, const char *url)
{
    const struct connection_user connections = server_user(spec);
    struct database_user *user = find_locked(backlog, spec->namespace, spec->name);

    if (user == NULL)
        user = make_locked(backlog, spec);
    count_at_locked(user, NULL);
    if (!str_equal_or_both_null(user->url, url)) {
        free_url(user);
        user->url = xstrdup(url);
    }
    user->connections = connection_budget_of(&connections);
    count_at_locked(user, proven_locked(backlog, url));
}

void users_count_locked(struct database_watch *watch, struct database_server *server)
{
    if (watch->pooler)
        return;
    for (struct database_user *user = watch->backlog->users; user != NULL; user = user->hh.next)
        if (strcmp(user->url, watch->url) == 0)
            count_at_locked(user, server);
}

void users_free(struct backlog *backlog)
{
    struct database_user *user, *next;

    HASH_ITER(hh, backlog->users, user, next)
    drop_locked(backlog, user);
}
