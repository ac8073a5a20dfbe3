/* function_gather.h - the world of one Function, put together from the caches.
 *
 * The API server is asked only for a child that the caches do not hold and that is about to be made: they hold what carries our label, and
 * a stranger's object of that name must not be taken over. Threads: any; one gathering per Function at a time.
 */
#ifndef CICADA_FUNCTION_FUNCTION_GATHER_H
#define CICADA_FUNCTION_FUNCTION_GATHER_H

#include "operator/backlog/backlog.h"
#include "operator/function/database_secrets.h"
#include "operator/function/function_cache.h"
#include "operator/function/function_scaler.h"
#include "operator/function/function_world.h"

struct function_sources {
    struct kube_client *client;
    struct function_cache *cache;
    struct function_scaler *scaler; /* asked why a number is what it is; NULL: nobody is */
    struct backlog *backlog;        /* NULL: databases are not watched; then secrets may be NULL, too */
    struct database_secrets *secrets;
    const struct function_settings *settings;
    const char *const *publish_addresses; /* count 0: those of the gateways' Service */
    size_t publish_address_count;
};

struct function_gathered {
    struct function_world world;
    struct cached_object *function, *deployment, *service, *endpoints,
        *ingress; /* references, NULL: absent */
    struct cached_child *gateway_service;
    struct cached_pod **pods, **gateways;
    size_t gateway_count;
    const char **gateway_ips;
    char *scaled_why;
    struct backlog_function backlog;
    bool has_backlog;
    char *secret_problem;
    char *left_behind;
    char **host_owners;
    size_t host_count;
};

/* *ret is to be released also after an error. world.function is NULL if there is no such Function. */
int function_gather(const struct function_sources *sources, const char *namespace, const char *name,
                    int64_t now_ms, struct function_gathered *ret, struct err *err) MUST_CHECK;
void function_gathered_release(struct function_gathered *gathered);

#endif
