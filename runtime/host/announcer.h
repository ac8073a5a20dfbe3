/* announcer.h - tells every gateway that this pod serves, and at the end that it leaves.
 *
 * The gateways are all IPv4 addresses of one name; each is spoken to by a thread of its own, so that a slow one delays no
 * other. Names are resolved while the rest of the start goes on. Retries follow operator/PROTOCOLS.md.
 *
 * Threads: all functions are called by one thread, the main one.
 */
#ifndef CICADA_HOST_ANNOUNCER_H
#define CICADA_HOST_ANNOUNCER_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"

struct announcer;

#define ANNOUNCER_GATEWAYS_MAX 64

struct announcer_settings {
    const char *gateway; /* "name:port" or "address:port"; borrowed during announcer_start() */
    const char *namespace, *function, *pod_name, *pod_uid;
};

/* Begins to resolve the name. ERR_INVALID: `gateway` is not name:port. */
int announcer_start(const struct announcer_settings *settings, struct announcer **ret_announcer,
                    struct err *err) MUST_CHECK;
/* From now on requests are answered on `port`: announces. NULL is fine, as for all below. */
void announcer_announce(struct announcer *announcer, int port);
/* Says goodbye: to all that the name stands for now, and to all that were announced to. */
void announcer_goodbye(struct announcer *announcer);
/* True when there was a gateway, and every one of them, by what they know of each other, has acknowledged the goodbye; one that the name
 * stands for no more and that can't be connected to has ended, and is not waited for. */
bool announcer_acknowledged(struct announcer *announcer);
/* Ends all threads; waits for them until the deadline. False: one hangs in name resolution, and nothing was freed. */
bool announcer_free(struct announcer *announcer, int64_t deadline_ms) MUST_CHECK;

#endif
