/* connection_budget.h - whether a database server has connections enough for what its Functions may use. Pure arithmetic.
 *
 * A replica opens database.poolSize connections for invocations, and one more that events come by. While pods are replaced, there are
 * some more than maxReplicas of them (the surge). A Function whose URL is that of a pooler in transaction mode is no user: the pooler
 * has the connections then, and limits of its own. Threads: none of its own.
 */
#ifndef CICADA_FUNCTION_CONNECTION_BUDGET_H
#define CICADA_FUNCTION_CONNECTION_BUDGET_H

#include <stddef.h>
#include <stdint.h>

#include "operator/function/function_status.h"

#define CONNECTION_BUDGET_PERCENT                                                                            \
    80 /* of max_connections; the rest is for people, backups and other programs */

/* A Function with a database. */
struct connection_user {
    const char *server; /* which one: equal texts are the same, such as "db.shop:5432" */
    int max_replicas, surge, pool_size;
};

/* Of one server. */
struct connection_budget {
    int max_connections; /* as the server says; 0: not known */
    int64_t needed;      /* at most, by all its Functions and by us */
    int64_t ours;        /* of those */
    size_t function_count;
};

/* Pods that there are beyond max_replicas while they are replaced: maxSurge of the Deployment, a quarter of them, rounded up. */
static inline int connection_user_surge(int max_replicas)
{
    return (max_replicas + 3) / 4;
}

/* At most, by one Function. */
int64_t connection_budget_of(const struct connection_user *user);
/* ours: connections that the operator has to that server. */
void connection_budget_sum(const char *server, int max_connections, int64_t ours,
                           const struct connection_user *users, size_t user_count,
                           struct connection_budget *ret_budget);
/* Of each of the server's Functions; left absent while max_connections is not known. */
void connection_budget_condition(const struct connection_budget *budget, struct condition *condition);
/* How many replicas the backlog of events may ask for: all of max_replicas while the budget holds (or is not known), else the Function's part
 * of what there is, at least one. Requests are not held back by this: somebody waits for them. */
int connection_budget_event_replicas(const struct connection_budget *budget,
                                     const struct connection_user *user);

#endif
