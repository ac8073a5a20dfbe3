/* announce_port.h - the port where processes that serve a function say that they can, and that they go (operator/PROTOCOLS.md).
 *
 * It reads what they say; whether that is to be believed, and what follows, is its user's: pods of a cluster (announce.h), processes
 * of one machine (local/).
 *
 * Threads: decide and gateways are called on the server's threads, many at once; the rest from the owner's.
 */
#ifndef CICADA_GATEWAY_ANNOUNCE_PORT_H
#define CICADA_GATEWAY_ANNOUNCE_PORT_H

#include <netinet/in.h>
#include <stdbool.h>

#include "runtime/base/err.h"
#include "runtime/base/metrics.h"

/* What a pod says, well-formed; strings are borrowed for the call. */
struct announcement {
    bool goodbye;
    const char *namespace, *function, *pod_name, *pod_uid;
    struct in_addr from;
    int port; /* 0: a goodbye without one, from a pod that never came to listen */
};

struct announce_answer {
    int status;         /* 200, 202: ask again, 403 */
    const char *code;   /* for metrics and programs; a literal */
    const char *detail; /* for people; a literal or NULL */
};
extern const struct announce_answer announce_accepted, announce_not_known_yet;

struct announce_port_settings {
    const char *listen; /* "0.0.0.0:9091"; port 0 picks a free one */
    int threads;
    struct announce_answer (*decide)(void *arg, const struct announcement *said);
    int (*gateways)(void *arg); /* how many there are, told to those who say goodbye; NULL: not told */
    void *arg;
    struct metrics *metrics; /* borrowed */
};

struct announce_port;
int announce_port_start(const struct announce_port_settings *settings, struct announce_port **ret_port,
                        struct err *err) MUST_CHECK;
int announce_port_number(const struct announce_port *port);
void announce_port_stop(struct announce_port *port); /* stops and frees; NULL is fine */

#endif
