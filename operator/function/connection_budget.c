#include "operator/function/connection_budget.h"

#include <string.h>

int64_t connection_budget_of(const struct connection_user *user)
{
    return ((int64_t)user->max_replicas + user->surge) * ((int64_t)user->pool_size + 1);
}

void connection_budget_sum(const char *server, int max_connections, int64_t ours,
                           const struct connection_user *users, size_t user_count,
                           struct connection_budget *ret_budget)
{
    *ret_budget =
        (struct connection_budget){.max_connections = max_connections, .needed = ours, .ours = ours};
    for (size_t i = 0; i < user_count; i++) {
        if (strcmp(users[i].server, server) == 0) {
            ret_budget->needed += connection_budget_of(&users[i]);
            ret_budget->function_count++;
        }
    }
}

static bool is_exceeded(const struct connection_budget *budget)
{
    return budget->max_connections > 0 &&
           budget->needed * 100 > (int64_t)budget->max_connections * CONNECTION_BUDGET_PERCENT;
}

void connection_budget_condition(const struct connection_budget *budget, struct condition *condition)
{
    if (budget->max_connections == 0) {
        return;
    }
    if (!is_exceeded(budget)) {
        /* Without figures: each change of one Function would change the status of all others. */
        condition_set(
            condition, CONDITION_TRUE, "WithinBudget",
            "the database server has connections enough for all replicas that its Functions may have");
        return;
    }
    condition_set(
        condition, CONDITION_FALSE, "OverBudget",
        "%zu Function%s of this database server may use up to %lld connections, with %lld of the operator; "
        "that is more than %d %% of its max_connections (%d). Lower scaling.maxReplicas or "
        "database.poolSize, or raise max_connections",
        budget->function_count, budget->function_count == 1 ? "" : "s", (long long)budget->needed,
        (long long)budget->ours, CONNECTION_BUDGET_PERCENT, budget->max_connections);
}

int connection_budget_event_replicas(const struct connection_budget *budget,
                                     const struct connection_user *user)
{
    if (!is_exceeded(budget)) {
        return user->max_replicas;
    }
    int64_t there = (int64_t)budget->max_connections * CONNECTION_BUDGET_PERCENT / 100 - budget->ours;
    int64_t wanted = budget->needed - budget->ours;
    if (there <= 0 || wanted <= 0) {
        return 1;
    }
    int64_t part = connection_budget_of(user) * there / wanted;
    int64_t replicas = part / ((int64_t)user->pool_size + 1) - user->surge;
    if (replicas < 1) {
        return 1;
    }
    return replicas < user->max_replicas ? (int)replicas : user->max_replicas;
}
