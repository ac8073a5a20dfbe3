/* connection_budget.h - whether a database server has connections enough for what Functions may use of it. Pure arithmetic.
 *
 * A replica opens database.poolSize connections for invocations, and, of a Function with triggers, one more that events come by. While pods are replaced, there are
 * some more than maxReplicas of them (the surge). A Function whose URL is that of a pooler in transaction mode is no user: the pooler
 * has the connections then, and limits of its own. Threads: none of its own.
 */
#ifndef CICADA_BACKLOG_CONNECTION_BUDGET_H
#define CICADA_BACKLOG_CONNECTION_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#define CONNECTION_BUDGET_PERCENT                                                                            \
    80 /* of max_connections; the rest is for people, backups and other programs */

/* A Function with a database. */
struct connection_user {
    int max_replicas, surge, pool_size;
    bool events; /* it has triggers */
};

/* Of one server. */
struct connection_budget {
    int max_connections; /* as the server says; 0: not known */
    int function_count;
    int64_t needed; /* at most, by these Functions */
    int64_t ours;   /* beside those */
};

/* Pods that there are beyond max_replicas while they are replaced: maxSurge of the Deployment, a quarter of them, rounded up. */
static inline int connection_user_surge(int max_replicas)
{
    return (max_replicas + 3) / 4;
}

/* At most, by one Function. */
int64_t connection_budget_of(const struct connection_user *user);
/* More than the percentage; false while it is not known. */
bool connection_budget_is_exceeded(const struct connection_budget *budget);
/* How many replicas the backlog of events may ask for: all of max_replicas while the budget holds (or is not known), else the Function's part
 * of what there is, at least one. Requests are not held back by this: somebody waits for them. */
int connection_budget_event_replicas(const struct connection_budget *budget,
                                     const struct connection_user *user);

#endif
