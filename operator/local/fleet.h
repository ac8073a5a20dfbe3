/* fleet.h - all Functions of this machine: keeps as many processes of each as are wanted, feeds the gateway, and is the autoscaler's
 * platform.
 *
 * What it does for the gateway and the autoscaler is what Deployments, kubelet and kube_catalog do in a cluster: a Function sleeps without
 * processes, is woken by a request, is scaled by the shared scaler, and gets new processes, which take over before the old
 * ones end, when what it is started with has changed. A Function that changed is tried at once, so that its author hears what is
 * wrong with it; one that fails is started again with growing delays.
 *
 * Threads: all functions from the loop's thread, but fleet_wake() and fleet_announced(). Ownership: the gateway is borrowed, and
 * outlives it.
 */
#ifndef CICADA_LOCAL_FLEET_H
#define CICADA_LOCAL_FLEET_H

#include "operator/gateway/announce_port.h"
#include "operator/gateway/gateway.h"
#include "operator/local/console.h"
#include "operator/local/launch.h"
#include "operator/local/replica.h"

struct fleet;

struct fleet_settings {
    struct loop *loop; /* borrowed, all of them */
    struct console *console;
    struct metrics *metrics;
    const char *runtime_path;
    const char *run_folder;
    struct launch_sources sources;
};

struct fleet *fleet_new(const struct fleet_settings *settings);
/* No process is left. False: the metrics must stay, as a thread that hangs may use them yet. NULL is fine. */
bool fleet_free(struct fleet *fleet);

/* Fits struct gateway_waker. */
void fleet_wake(void *arg, const char *namespace, const char *name);
/* Fits struct announce_port_settings. */
struct announce_answer fleet_announced(void *arg, const struct announcement *said);
/* Before the first Function. */
void fleet_set_gateway(struct fleet *fleet, struct gateway *gateway);
void fleet_set_announce_port(struct fleet *fleet, int port);
void fleet_set_database_url(struct fleet *fleet, const char *url);
/* From now on what changes is tried at once. */
void fleet_started(struct fleet *fleet);

/* Each Function's triggers are in its database, or it is known why not. */
bool fleet_triggers_are_settled(const struct fleet *fleet);

/* Adds or replaces; takes a reference of its own. */
void fleet_set_function(struct fleet *fleet, struct function_spec *spec);
void fleet_remove_function(struct fleet *fleet, const char *namespace, const char *name);
/* Secrets, ConfigMaps or handlers' files changed: what each Function is started with is put together anew. */
void fleet_refresh(struct fleet *fleet);

/* Ends all processes; `done` is called when the last is gone. Nothing is started from now on. */
void fleet_stop(struct fleet *fleet, void (*done)(void *arg), void *arg);
/* Those that are left. */
void fleet_kill(struct fleet *fleet);

/* For people to look at. */
struct fleet_row {
    const struct function_spec *spec;
    const char *state; /* "asleep", "starting", "serving", "changing", or why it can't serve */
    int replicas;      /* that serve */
    struct {
        bool any; /* it has triggers */
        bool known;
        bool more; /* than could be counted */
        int64_t waiting, dead;
        int64_t next_run_s; /* 0: there is no schedule */
    } events;
};
/* The awake ones first. The caller frees *ret_rows before anything changes. */
size_t fleet_rows(const struct fleet *fleet, struct fleet_row **ret_rows);

#endif
