#include "operator/function/trigger_plan.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"

#define SECRET_REREAD_MS  120000 /* of a Function at rest */
#define COUNTED_REREAD_MS 300000 /* of one that is only counted: there may be a watch of its database now */
#define TROUBLE_REREAD_MS 10000  /* the Secret may be what is wrong, or is not there yet */
#define REMOVING_LOOK_MS  2000
#define GIVE_UP_MS        120000
/* Its Secret is gone or its namespace goes, with all that could help: only what is under way may still come about. */
#define GIVE_UP_LEAVING_MS 10000
#define SQL_MAX_BYTES      65536

static bool wants_triggers(const struct function_world *world)
{
    return world->function->spec && world->function->spec->trigger_count > 0 && !world->function->deleting;
}

/* ---- condition ---- */

/* A new leader does not know yet, and need not write to everybody for that. */
static bool is_as_before(const struct function_world *world, struct condition *condition)
{
    const struct condition *before = &world->function->status.conditions[CONDITION_TRIGGERS_READY];
    bool same_spec = before->generation == world->function->generation;
    if (before->status == CONDITION_ABSENT || !same_spec) {
        return false;
    }
    condition_copy(condition, before);
    return true;
}

static void set_without_url(const struct function_world *world, struct condition *condition)
{
    const struct world_triggers *triggers = &world->triggers;
    if (triggers->secret_missing) {
        condition_set(condition, CONDITION_FALSE, "SecretMissing", "%s", triggers->secret_problem);
    } else if (!is_as_before(world, condition)) {
        condition_set(condition, CONDITION_UNKNOWN, "Waiting", "%s", triggers->secret_problem);
    }
}

void trigger_plan_condition(const struct function_world *world, struct condition *condition)
{
    const struct backlog_function *backlog = world->triggers.backlog;
    if (!wants_triggers(world)) {
        return;
    }
    if (world->triggers.secret_problem) {
        set_without_url(world, condition);
        return;
    }
    switch (backlog ? backlog->progress : BACKLOG_WORKING) {
    case BACKLOG_READY:
        condition_set(condition, CONDITION_TRUE, "Installed", "the database has all that the triggers need");
        break;
    case BACKLOG_PROBLEM:
        condition_set(condition, CONDITION_FALSE, backlog->reason, "%s", backlog->message);
        break;
    case BACKLOG_WORKING:
    case BACKLOG_REMOVED:
        if (!is_as_before(world, condition)) {
            condition_set(condition, CONDITION_UNKNOWN, "Installing",
                          "what the triggers need is being put into the database");
        }
        break;
    }
}

int64_t trigger_plan_recheck_ms(const struct function_world *world)
{
    const struct world_triggers *triggers = &world->triggers;
    if (!wants_triggers(world)) {
        return triggers->counted ? COUNTED_REREAD_MS : 0;
    }
    bool unreachable = triggers->backlog && triggers->backlog->unreachable_ms > 0;
    return triggers->secret_problem || unreachable ? TROUBLE_REREAD_MS : SECRET_REREAD_MS;
}

/* ---- finalizer ---- */

static void add_literal(struct strbuf *sql, const char *before, const char *text)
{
    strbuf_appendf(sql, "%s'", before);
    for (const char *c = text; *c; c++) {
        strbuf_append_str(sql, *c == '\'' ? "''" : (const char[]){*c, '\0'});
    }
    strbuf_append_char(sql, '\'');
}

static void add_names(struct strbuf *sql, const char *before, const struct function_spec *spec,
                      const struct function_trigger *trigger)
{
    add_literal(sql, before, spec->namespace);
    add_literal(sql, ", ", spec->name);
    add_literal(sql, ", ", trigger->name);
    strbuf_append_char(sql, ')');
}

static void add_call(struct strbuf *sql, const char *function, const struct function_spec *spec,
                     const struct function_trigger *trigger)
{
    const char *separator = "";
    strbuf_appendf(sql, "%sSELECT cicada.%s(", sql->len > 0 ? " " : "", function);
    if (trigger->source == TRIGGER_QUEUE) {
        add_literal(sql, separator, trigger->queue);
        separator = ", ";
    }
    add_names(sql, separator, spec, trigger);
    strbuf_append_char(sql, ';');
}

/* Of a table's trigger, which has its queue to itself: it goes last, as what is left is known by it. */
static void add_release_of_own_queue(struct strbuf *sql, const struct function_spec *spec,
                                     const struct function_trigger *trigger)
{
    strbuf_append_str(sql, " SELECT cicada.queue_release(cicada.trigger_queue(");
    add_names(sql, "", spec, trigger);
    add_names(sql, ", ", spec, trigger);
    strbuf_append_char(sql, ';');
}

/* By the spec, for a database that nobody has asked. */
static char *sql_by_spec(const struct function_spec *spec)
{
    struct strbuf sql;
    strbuf_init(&sql, SQL_MAX_BYTES);
    for (size_t i = 0; spec && i < spec->trigger_count; i++) {
        const struct function_trigger *trigger = &spec->triggers[i];
        switch (trigger->source) {
        case TRIGGER_QUEUE:
            add_call(&sql, "queue_release", spec, trigger);
            break;
        case TRIGGER_TABLE:
            add_call(&sql, "table_unregister", spec, trigger);
            add_call(&sql, "table_drop", spec, trigger);
            add_release_of_own_queue(&sql, spec, trigger);
            break;
        case TRIGGER_SCHEDULE:
            add_call(&sql, "schedule_remove", spec, trigger);
            break;
        }
    }
    return strbuf_detach(&sql, NULL);
}

static void give_up(const struct function_world *world, const char *why, struct finalizer_plan *plan)
{
    const struct backlog_function *backlog = world->triggers.backlog;
    CLEANUP_FREE char *by_spec = sql_by_spec(world->function->spec);
    const char *sql = backlog && backlog->cleanup_sql ? backlog->cleanup_sql : by_spec;
    plan->step = FINALIZER_REMOVE;
    plan->left_behind =
        sql[0] ? xasprintf(
                     "triggers may be left in the database: %s. To remove them, run as the tables' owner: %s",
                     why, sql)
               : xasprintf("triggers may be left in the database: %s", why);
}

static void plan_removal(const struct function_world *world, struct finalizer_plan *plan)
{
    const struct world_triggers *triggers = &world->triggers;
    const struct backlog_function *backlog = triggers->backlog;
    const struct cached_function *function = world->function;
    int64_t deleted_for_ms = function->deleting ? world->now_ms - function->deleted_ms : 0;
    /* One that lives on may wait: its Secret is made anew, its database comes back. */
    bool leaving = function->deleting && (triggers->namespace_terminating || triggers->secret_missing);
    bool problem = backlog && backlog->progress == BACKLOG_PROBLEM;
    /* What passes by itself is tried again, but not for ever: a call that takes too long does so each time. */
    bool stuck = problem || (backlog && backlog->progress == BACKLOG_WORKING && backlog->message);
    bool no_database = function->spec && !function->spec->has_database;
    if (backlog && backlog->progress == BACKLOG_REMOVED) {
        plan->step = FINALIZER_REMOVE;
    } else if (leaving && (problem || deleted_for_ms >= GIVE_UP_LEAVING_MS)) {
        give_up(world,
                triggers->namespace_terminating ? "the namespace is being deleted" : triggers->secret_problem,
                plan);
    } else if (no_database && problem && (function->deleting || backlog->url_unknown)) {
        give_up(world, "the spec names no database any more", plan);
    } else if (function->deleting && backlog && backlog->unreachable_ms >= GIVE_UP_MS) {
        give_up(world, "the database has been unreachable for 2 minutes", plan);
    } else if (stuck && backlog->unreachable_ms == 0 && deleted_for_ms >= GIVE_UP_MS) {
        give_up(world, backlog->message, plan);
    } else {
        plan->requeue_after_ms = REMOVING_LOOK_MS;
    }
}

void trigger_plan_finalizer(const struct function_world *world, struct finalizer_plan *ret_plan)
{
    memset(ret_plan, 0, sizeof *ret_plan);
    if (world->function->has_finalizer) {
        /* An invalid spec tells nothing: what is in the database stays until it is valid again, or the Function goes. */
        if (!wants_triggers(world) && (world->function->spec || world->function->deleting)) {
            plan_removal(world, ret_plan);
        }
    } else if (wants_triggers(world)) {
        ret_plan->step = FINALIZER_ADD;
    }
}

char *trigger_plan_left_behind(const struct function_world *world)
{
    const char *sql = world->triggers.left_behind;
    return sql ? xasprintf(
                     "the database is another one now, and what was installed for triggers is left in the "
                     "one before. To remove it, run there as the tables' owner: %s",
                     sql)
               : NULL;
}

cJSON *trigger_plan_finalizer_patch(const struct cached_function *function, enum finalizer_step step)
{
    cJSON *patch = cJSON_CreateObject(), *metadata = json_add_object(patch, "metadata");
    json_add_string(metadata, "resourceVersion", function->base.resource_version);
    cJSON *list = json_add_array(metadata, "finalizers");
    for (size_t i = 0; i < function->other_finalizer_count; i++) {
        json_append_string(list, function->other_finalizers[i]);
    }
    if (step == FINALIZER_ADD) {
        json_append_string(list, FINALIZER_TRIGGERS);
    }
    return patch;
}
