/* function_objects.h - what the operator keeps in memory of each object that it watches: the fields its decisions use.
 *
 * The project_* functions fit struct informer_settings. Projections begin with struct cached_object, are immutable and
 * reference-counted; strings are NULL where the object has none. Threads: none of its own.
 */
#ifndef CICADA_FUNCTION_FUNCTION_OBJECTS_H
#define CICADA_FUNCTION_FUNCTION_OBJECTS_H

#include <stdatomic.h>
#include <stdbool.h>

#include "operator/cache/informer.h"
#include "operator/function/function_spec.h"
#include "operator/function/function_status.h"

/* What is common to all children. */
struct child_head {
    struct cached_object base;
    char *owner_uid;        /* of the controlling owner */
    bool owner_is_namesake; /* the owner is a Function of the object's own name, maybe of another uid */
    char *intent;           /* annotation: hash of what was applied last */
    bool deleting;
    uint64_t content; /* hash of what an intent is about, replicas aside */
    _Atomic(uint64_t)
        accepted; /* the content that our last write left; 0: not known. Set by the cache, later than the rest */
};

/* Somebody changed the object since our last write. */
static inline bool child_head_drifted(const struct child_head *head)
{
    uint64_t accepted = atomic_load(&head->accepted);
    return accepted != 0 && accepted != head->content;
}

struct cached_function {
    struct cached_object base;
    struct function_spec *spec; /* NULL: invalid, and spec_error says why */
    char *spec_error;
    char spec_template[17]; /* function_deployment_spec_template(); empty if invalid */
    int64_t generation;
    bool deleting, has_finalizer; /* FINALIZER_TRIGGERS */
    int64_t deleted_ms;           /* since when it is being deleted, wall; 0: it is not */
    char **other_finalizers;
    size_t other_finalizer_count;
    struct function_status status;
};

struct cached_deployment {
    struct child_head head;
    char *template; /* annotations, see PROTOCOLS */
    char *spec_template;
    char *proven;
    int replicas; /* spec */
    int64_t created_ms, generation, observed_generation;
    int status_replicas, updated_replicas, ready_replicas, available_replicas;
    char *replica_failure;  /* message of the condition, if it is True */
    char *progress_failure; /* message of Progressing, if it is False with ProgressDeadlineExceeded */
};

/* Services, Ingresses, Endpoints. */
struct cached_child {
    struct child_head head;
    char *class_name;     /* Ingress: class, also by the old annotation */
    char *addresses_hash; /* Ingress: function_service_hash_addresses() of status.loadBalancer */
    char **addresses;     /* Service: where it is reached from outside of the cluster */
    size_t address_count;
};

struct container_end {
    bool present;
    int exit_code, signal;
    char *reason;  /* "Error", "OOMKilled" */
    char *message; /* termination message */
};

struct cached_pod {
    struct cached_object base;
    char *function; /* label */
    char *template; /* annotation */
    char *phase, *ip;
    int64_t created_ms;
    bool deleting, ready;
    int exits; /* how often its container has ended */
    char *waiting_reason, *waiting_message;
    struct container_end ended;  /* the container's state now */
    struct container_end before; /* its last state */
    char *unschedulable;         /* message of PodScheduled=False, Unschedulable */
    int64_t unschedulable_since_ms;
};

struct cached_object *function_objects_project_function(void *arg, const cJSON *tree);
struct cached_object *function_objects_project_deployment(void *arg, const cJSON *tree);
struct cached_object *function_objects_project_child(void *arg, const cJSON *tree);
struct cached_object *function_objects_project_pod(void *arg, const cJSON *tree);

/* Whether a change of the object is one that a decision about its Function may depend on. */
bool function_objects_pod_differs(const struct cached_pod *a, const struct cached_pod *b);

#endif
