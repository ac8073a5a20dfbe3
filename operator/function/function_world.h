/* function_world.h - all that a decision about one Function may look at; nothing else exists for it.
 *
 * Everything is borrowed. Threads: none of its own.
 */
#ifndef CICADA_FUNCTION_FUNCTION_WORLD_H
#define CICADA_FUNCTION_FUNCTION_WORLD_H

#include "operator/backlog/backlog.h"
#include "operator/function/function_names.h"
#include "operator/function/function_objects.h"
#include "operator/function/function_pod_failure.h"

/* Of a Function that has triggers, or had; counted: of one without. */
struct world_triggers {
    const struct backlog_function *backlog; /* what the watch of its database tells; NULL: nothing */
    const char *secret_problem;             /* why there is no URL; NULL: there is one, or none is needed */
    bool secret_missing;                    /* that is why: somebody has to make it */
    bool namespace_terminating;             /* looked at only while the Function is being deleted */
    const char
        *left_behind; /* its database is another one since just now: SQL for the one before; else NULL */
    bool
        counted; /* its connections are, where its Secret has the URL of a watch that has reached its database */
};

struct function_world {
    const struct cached_function *function;
    const struct cached_deployment *deployment; /* children: NULL if absent */
    const struct cached_child *service, *endpoints, *ingress;
    const struct cached_pod *const *pods; /* of the Function, in order of their names */
    size_t pod_count;
    const char *const
        *host_owners; /* per host of the spec: who it belongs to, "namespace/name", NULL: this Function */
    const char *const *gateway_ips; /* of gateways that serve, sorted */
    size_t gateway_ip_count;
    const char *const *publish_addresses; /* what Ingresses of class `cicada` show */
    size_t publish_address_count;
    struct world_triggers triggers;
    const char *scaled_why; /* the Deployment has its number of replicas; NULL: not known */
    const struct function_settings *settings;
    bool may_roll; /* a change of the operator's own defaults may reach this Function now */
    int64_t now_ms;
};

/* Whose an object with a child's name is. */
enum child_claim {
    CHILD_ABSENT,
    CHILD_OURS,
    CHILD_LEAVING, /* ours or of a deleted Function of the same name, and about to go */
    CHILD_FOREIGN,
};

/* What follows from the world at first sight; computed once, used by plan and conditions. */
struct function_facts {
    enum child_claim deployment, service, endpoints, ingress;
    bool is_current;    /* the Deployment is ours and has that spec template */
    bool failed_before; /* this generation was found failing, and no pod of it has served since */
    int proof_replicas; /* pods that must be able to serve; 0: no proof asked for */
    bool proven;        /* by the annotation */
    int ready;          /* pods of the Deployment's template that can serve */
    bool has_failure;   /* of a pod of that template */
    struct pod_failure failure;
    int64_t recheck_after_ms; /* 0: no */
};

enum child_claim child_claim_of(const struct child_head *head, const char *function_uid);
/* spec must be valid. */
void function_facts_find(const struct function_world *world, struct function_facts *ret_facts);
static inline bool function_facts_can_serve(const struct function_facts *facts)
{
    return facts->ready > 0 && facts->ready >= facts->proof_replicas;
}

#endif
