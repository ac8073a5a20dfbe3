#include "operator/function/trigger_status.h"

#include <string.h>

#include "runtime/base/mem.h"

static const struct backlog_trigger *figures_of(const struct backlog_function *backlog, const char *name)
{
    for (size_t i = 0; backlog && i < backlog->trigger_count; i++) {
        if (strcmp(backlog->triggers[i].name, name) == 0) {
            return &backlog->triggers[i];
        }
    }
    return NULL;
}

static const struct trigger_status *shown_of(const struct function_status *before, const char *name)
{
    for (size_t i = 0; i < before->trigger_count; i++) {
        if (strcmp(before->triggers[i].name, name) == 0) {
            return &before->triggers[i];
        }
    }
    return NULL;
}

static void fill(const struct backlog_trigger *figures, const struct trigger_status *shown,
                 struct trigger_status *trigger)
{
    if (figures && figures->known) {
        trigger->known = true;
        trigger->backlog = figures->due + figures->delayed + figures->leased + figures->blocked;
        trigger->oldest_age_s = backlog_shown_age_s(figures->oldest_s);
        trigger->dead_letters = figures->dead;
    } else if (shown) {
        trigger->known = shown->known;
        trigger->backlog = shown->backlog;
        trigger->oldest_age_s = shown->oldest_age_s;
        trigger->dead_letters = shown->dead_letters;
    }
    trigger->next_run_s = figures && figures->next_run_s ? figures->next_run_s
                          : shown                        ? shown->next_run_s
                                                         : 0;
}

void trigger_status_fill(const struct function_spec *spec, const struct backlog_function *backlog,
                         const struct function_status *before, struct function_status *status)
{
    if (spec->trigger_count == 0) {
        return;
    }
    status->triggers = xcalloc(spec->trigger_count, sizeof *status->triggers);
    status->trigger_count = spec->trigger_count;
    for (size_t i = 0; i < spec->trigger_count; i++) {
        const char *name = spec->triggers[i].name;
        status->triggers[i].name = xstrdup(name);
        fill(figures_of(backlog, name), shown_of(before, name), &status->triggers[i]);
        if (spec->triggers[i].source != TRIGGER_SCHEDULE) {
            status->triggers[i].next_run_s = 0;
        }
    }
}

void trigger_status_budget(const struct function_spec *spec, const struct backlog_function *backlog,
                           const struct function_status *before, struct condition *condition)
{
    const struct connection_budget *budget = backlog ? &backlog->connections : NULL;
    if (spec->trigger_count == 0 || spec->database_pooler_transaction) {
        return;
    }
    if (!budget || budget->max_connections == 0) {
        if (before->conditions[CONDITION_CONNECTION_BUDGET].status != CONDITION_ABSENT) {
            condition_copy(condition, &before->conditions[CONDITION_CONNECTION_BUDGET]);
        }
    } else if (connection_budget_is_exceeded(budget)) {
        /* Without figures of others: each change of one Function would change the status of all. */
        condition_set(
            condition, CONDITION_FALSE, "OverBudget",
            "the Functions that are known to use this database server may need more than %d %% of its "
            "max_connections (%d), this one up to %lld of them. Lower scaling.maxReplicas or "
            "database.poolSize, or raise max_connections",
            CONNECTION_BUDGET_PERCENT, budget->max_connections, (long long)backlog->own_connections);
    } else {
        condition_set(
            condition, CONDITION_TRUE, "WithinBudget",
            "the database server has connections enough for all replicas of its Functions that are known");
    }
}
