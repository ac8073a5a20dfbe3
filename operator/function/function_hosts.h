/* function_hosts.h - whose a host is. Pure.
 *
 * A host belongs to the namespace of its oldest Function; within that namespace a host with a path belongs to the oldest Function that
 * names both. Age is creation time, then namespace and name. Threads: none of its own.
 */
#ifndef CICADA_FUNCTION_FUNCTION_HOSTS_H
#define CICADA_FUNCTION_FUNCTION_HOSTS_H

#include "operator/function/function_spec.h"

struct host_claim {
    int64_t created_ms;
    char *namespace, *name; /* NULL: nobody yet */
};

/* The claims on the hosts of one Function. */
struct host_claims {
    const struct function_spec *spec;
    struct host_claim *oldest;           /* per host: of all Functions that name it */
    struct host_claim *oldest_with_path; /* per host: of those in our namespace that name our path, too */
};

/* spec is borrowed and counts as a claimant itself. */
void host_claims_init(struct host_claims *claims, const struct function_spec *spec);
void host_claims_add(struct host_claims *claims, const struct function_spec *other);
/* "namespace/name" of whom host i belongs to, NULL if to this Function. The caller frees. */
char *host_claims_other_owner(const struct host_claims *claims, size_t host);
void host_claims_release(struct host_claims *claims);

bool function_hosts_overlap(const struct function_spec *a, const struct function_spec *b);
bool function_hosts_equal(const struct function_spec *a, const struct function_spec *b); /* hosts and path */

#endif
