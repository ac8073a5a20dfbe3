#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "operator/backlog/backlog.h"
#include "operator/local/fleet_function.h"
#include "runtime/base/mem.h"

static void forget(struct fleet_function *function)
{
    backlog_forget(function->fleet->backlog, function->spec->namespace, function->spec->name);
    fleet_events_release(&function->events);
}

/* Said once, until something else is wrong. */
static void fail(struct fleet_function *function, const char *reason, const char *message)
{
    struct fleet_events *events = &function->events;
    snprintf(events->state, sizeof events->state, "%s", reason);
    if (events->problem && strcmp(events->problem, message) == 0) {
        return;
    }
    free(events->problem);
    events->problem = xstrdup(message);
    console_event(function->fleet->settings.console, function->key, "%s: %s", reason, message);
}

static void forget_failure(struct fleet_function *function)
{
    struct fleet_events *events = &function->events;
    if (events->problem) {
        console_event(function->fleet->settings.console, function->key, "its triggers work now");
    }
    events->state[0] = '\0';
    free(events->problem);
    events->problem = NULL;
}

/* NULL where the spec names no other role. What is wrong with the Secret of the function itself is told at its start. */
static int find_urls(struct fleet_function *function, const char **ret_url, const char **ret_owner_url)
{
    const struct launch_sources *sources = &function->fleet->settings.sources;
    const struct function_spec *spec = function->spec;
    struct launch_failure failure = {.reason = ""};
    *ret_owner_url = NULL;
    if (launch_database(sources, spec->namespace, spec->database_secret, spec->database_key, ret_url,
                        &failure) < 0) {
        return -1;
    }
    if (spec->owner_secret && launch_database(sources, spec->namespace, spec->owner_secret, spec->owner_key,
                                              ret_owner_url, &failure) < 0) {
        fail(function, failure.reason, failure.err.msg);
        return -1;
    }
    return 0;
}

void fleet_events_refresh(struct fleet_function *function)
{
    const struct function_spec *spec = function->spec;
    const char *url, *owner_url;
    if (!spec->has_database && function->events.watched) {
        fleet_events_remove(function);
    }
    if (!spec->has_database || (spec->trigger_count == 0 && !function->events.watched) ||
        find_urls(function, &url, &owner_url) < 0) {
        return;
    }
    function->events.watched = true;
    function->events.removing = false;
    backlog_set(function->fleet->backlog, function->spec, url, owner_url);
    backlog_set_awake(function->fleet->backlog, spec->namespace, spec->name, function->events.awake);
}

void fleet_events_set_awake(struct fleet_function *function, bool awake)
{
    if (function->events.watched && function->events.awake != awake && !function->fleet->stopping) {
        function->events.awake = awake;
        backlog_set_awake(function->fleet->backlog, function->spec->namespace, function->spec->name, awake);
    }
}

bool fleet_events_are_settled(const struct fleet_function *function)
{
    struct backlog_function now;
    if (!function->events.watched ||
        !backlog_read(function->fleet->backlog, function->spec->namespace, function->spec->name, &now)) {
        return true;
    }
    bool settled = now.progress != BACKLOG_WORKING;
    backlog_function_release(&now);
    return settled;
}

void fleet_events_remove(struct fleet_function *function)
{
    const char *url = NULL, *owner_url = NULL;
    if (!function->events.watched || function->events.removing) {
        return;
    }
    function->events.removing = true;
    if (function->spec->has_database && find_urls(function, &url, &owner_url) < 0) {
        url = NULL; /* the Secret has gone first */
    }
    backlog_remove(function->fleet->backlog, function->spec, url, owner_url);
}

static void fail_by_backlog(struct fleet_function *function, const struct backlog_function *now)
{
    CLEANUP_FREE char *message =
        xasprintf("%s%s%s%s", function->removed ? "its triggers are not removed yet: " : "", now->message,
                  now->cleanup_sql ? "; by hand: " : "", now->cleanup_sql ? now->cleanup_sql : "");
    fail(function, now->reason, message);
}

void fleet_events_changed(struct fleet_function *function)
{
    struct backlog_function now;
    if (!function->events.watched ||
        !backlog_read(function->fleet->backlog, function->spec->namespace, function->spec->name, &now)) {
        return;
    }
    if (now.progress == BACKLOG_PROBLEM) {
        fail_by_backlog(function, &now);
    } else if (now.progress == BACKLOG_READY) {
        forget_failure(function);
    } else if (now.progress == BACKLOG_REMOVED) {
        forget(function);
    }
    backlog_function_release(&now);
}

static void add_trigger(struct fleet_row *row, const struct backlog_trigger *trigger)
{
    row->events.waiting += trigger->due + trigger->delayed + trigger->leased + trigger->blocked;
    row->events.dead += trigger->dead;
    row->events.more |= trigger->capped;
    if (trigger->next_run_s > 0 &&
        (row->events.next_run_s == 0 || trigger->next_run_s < row->events.next_run_s)) {
        row->events.next_run_s = trigger->next_run_s;
    }
}

void fleet_events_read(const struct fleet_function *function, struct fleet_row *row)
{
    struct backlog_function now;
    row->events.any = function->spec->trigger_count > 0;
    if (!row->events.any || !function->events.watched ||
        !backlog_read(function->fleet->backlog, function->spec->namespace, function->spec->name, &now)) {
        return;
    }
    row->events.known = now.known;
    for (size_t i = 0; i < now.trigger_count; i++) {
        add_trigger(row, &now.triggers[i]);
    }
    backlog_function_release(&now);
}

void fleet_events_release(struct fleet_events *events)
{
    free(events->problem);
    *events = (struct fleet_events){.watched = false};
}
