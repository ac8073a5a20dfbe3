/* replica.h - one process of a Function: a cicada-runtime on ports of loopback that the kernel picks, which it announces.
 *
 * STARTING until it has announced itself, SERVING, STOPPING once it was told to end: it then finishes what it has, and is killed when
 * that takes longer than drainSeconds and a margin.
 *
 * Ownership: its owner's list holds it; after `ended` it is the owner's to free. Threads: the loop's.
 */
#ifndef CICADA_LOCAL_REPLICA_H
#define CICADA_LOCAL_REPLICA_H

#include <netinet/in.h>
#include <uthash.h>

#include "operator/local/launch.h"
#include "operator/local/line_tail.h"
#include "operator/local/process.h"
#include "runtime/base/text.h"

enum replica_state { REPLICA_STARTING, REPLICA_SERVING, REPLICA_STOPPING };

#define REPLICA_REASON_SIZE 48

/* Why it ended without having been told to. */
struct replica_end {
    char reason[REPLICA_REASON_SIZE]; /* "HandlerLoadFailed", "ContainerExited" */
    char message[1024];
};

struct replica;

/* What all of them share; borrowed. */
struct replica_platform {
    struct loop *loop;
    const char *runtime_path;
    const char *announce_address; /* "127.0.0.1:4711" */
    const char *run_folder;       /* for termination messages; absolute */
    void (*line)(void *arg, const struct replica *replica, const char *text, size_t len);
    /* What it waits for before it can serve is another thing now. */
    void (*delayed)(void *arg, const struct replica *replica);
    /* end: NULL if it was told to. */
    void (*ended)(void *arg, struct replica *replica, const struct replica_end *end);
    void *arg;
};

struct replica {
    LIST_ENTRY(replica) link; /* the owner's, the youngest first */
    UT_hash_handle hh;        /* the owner's; key: uid */
    const struct replica_platform *platform;
    void *owner;
    struct launch *launch; /* a reference */
    char uid[UUID_TEXT_SIZE];
    char *name, *termination_path;
    enum replica_state state;
    struct process *process;
    char
        delay[REPLICA_REASON_SIZE]; /* while STARTING: what it waits for, by its log; empty: it did not say */
    int64_t started_ms, serving_ms;
    int drain_seconds;
    bool killed;
    struct loop_timer kill;
    struct loop_post freed;
    struct line_tail tail;
};

/* number: of the Function's replicas so far, for its name. Its uid is known before it can announce itself. */
struct replica *replica_new(const struct replica_platform *platform, const struct function_spec *spec,
                            struct launch *launch, int number, void *owner);
int replica_start(struct replica *replica, struct err *err) MUST_CHECK;
void replica_serves(struct replica *replica);
void replica_stop(struct replica *replica); /* nothing if it was told already */
void replica_kill(struct replica *replica);
void replica_free(struct replica *replica); /* its process must have ended, or never have been started */

#endif
