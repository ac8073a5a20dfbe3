/* What the Functions that are watched may use of a database server. A server is host and port of the first host of a URL: what a server
 * says of itself could be that of somebody else's. Only Functions whose database was reached count: a URL alone is no proof. Those without
 * triggers are in database_users.c. */
#include <string.h>

#include "operator/backlog/backlog_internal.h"
#include "runtime/postgres/pg_url.h"

static const char *param_of(const struct pg_url_params *params, const char *keyword)
{
    for (size_t i = 0; i < PG_URL_PARAMS_MAX && params->keywords[i] != NULL; i++)
        if (strcmp(params->keywords[i], keyword) == 0)
            return params->values[i];
    return "";
}

/* NULL: the URL can't be read. */
static char *key_of(const char *url, bool with_database)
{
    struct pg_url_params params = {{NULL}, {NULL}};
    struct pg_url *parsed = NULL;
    struct err err = ERR_INIT;

    if (pg_url_parse(url, &parsed, &err) != 0)
        return NULL;
    pg_url_params(parsed, 0, "", &params);
    char *key = xasprintf("%s:%s%s%s", param_of(&params, "host"), param_of(&params, "port"),
                          with_database ? "/" : "", with_database ? param_of(&params, "dbname") : "");
    pg_url_free(parsed);
    return key;
}

bool server_urls_agree(const char *a, const char *b)
{
    CLEANUP_FREE char *key_a = key_of(a, /* with_database= */ true);
    CLEANUP_FREE char *key_b = key_of(b, /* with_database= */ true);

    return key_a != NULL && key_b != NULL && strcmp(key_a, key_b) == 0;
}

struct database_server *server_get_locked(struct backlog *backlog, const char *url)
{
    CLEANUP_FREE char *key = key_of(url, /* with_database= */ false);
    struct database_server *server;

    if (key == NULL)
        return NULL;
    HASH_FIND_STR(backlog->servers, key, server);
    if (server == NULL) {
        size_t size = strlen(key) + 1;
        server = xcalloc(1, sizeof(*server) + size);
        memcpy(server->key, key, size);
        HASH_ADD_STR(backlog->servers, key, server);
    }
    server->watches++;
    return server;
}

void server_put_locked(struct backlog *backlog, struct database_server *server)
{
    if (server == NULL || --server->watches > 0)
        return;
    HASH_DEL(backlog->servers, server);
    free(server);
}

struct connection_user server_user(const struct function_spec *spec)
{
    int replicas = spec->replicas >= 0 ? spec->replicas : spec->max_replicas;

    return (struct connection_user){
        .max_replicas = replicas,
        .surge = connection_user_surge(replicas),
        .pool_size = spec->database_pool_size,
        .events = spec->trigger_count > 0,
    };
}

void server_count_locked(struct watched *watched)
{
    const struct database_watch *watch = watched->watch;
    struct database_server *server = watched->server;

    if (server != NULL) {
        server->budget.needed -= watched->connections;
        server->budget.function_count--;
    }
    watched->server = watch != NULL && watch->reached && !watched->removing ? watch->server : NULL;
    if (watched->server != NULL) {
        const struct connection_user user = server_user(watched->spec);
        watched->connections = connection_budget_of(&user);
        watched->server->budget.needed += watched->connections;
        watched->server->budget.function_count++;
    }
}

void server_reached_locked(struct database_watch *watch, int max_connections)
{
    if (watch->server == NULL)
        return;
    watch->server->budget.max_connections = max_connections;
    if (watch->reached)
        return;
    watch->reached = true;
    watch->server->budget.ours++;
    for (struct watched *watched = watch->members; watched != NULL; watched = watched->next)
        server_count_locked(watched);
    users_count_locked(watch, watch->server);
}

void server_leave_locked(struct database_watch *watch)
{
    if (watch->server != NULL && watch->reached)
        watch->server->budget.ours--;
    users_count_locked(watch, NULL);
    server_put_locked(watch->backlog, watch->server);
    watch->server = NULL;
}
