#include "operator/backlog/connection_budget.h"

static int64_t of_replica(const struct connection_user *user)
{
    return (int64_t)user->pool_size + (user->events ? 1 : 0);
}

int64_t connection_budget_of(const struct connection_user *user)
{
    return ((int64_t)user->max_replicas + user->surge) * of_replica(user);
}

static int64_t most_of(const struct connection_budget *budget)
{
    return (int64_t)budget->max_connections * CONNECTION_BUDGET_PERCENT / 100;
}

bool connection_budget_is_exceeded(const struct connection_budget *budget)
{
    return budget->max_connections > 0 && budget->needed + budget->ours > most_of(budget);
}

int connection_budget_event_replicas(const struct connection_budget *budget,
                                     const struct connection_user *user)
{
    if (!connection_budget_is_exceeded(budget))
        return user->max_replicas;
    int64_t there = most_of(budget) - budget->ours;
    if (there <= 0 || budget->needed <= 0)
        return 1;
    int64_t part = connection_budget_of(user) * there / budget->needed;
    int64_t replicas = part / of_replica(user) - user->surge;
    if (replicas < 1)
        return 1;
    return replicas < user->max_replicas ? (int)replicas : user->max_replicas;
}
