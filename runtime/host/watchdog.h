/* watchdog.h - the invocations at work, and the one thread that answers for those that are late.
 *
 * A handler runs on its connection's thread, which can't answer while the handler is late. The watchdog's thread does, and
 * the connection's thread finds that out when the handler returns. It sleeps until the first deadline: a request that is in
 * time never wakes it.
 *
 * Threads: watchdog_add() and watchdog_remove() on the invocation's own thread; the others on any.
 */
#ifndef CICADA_HOST_WATCHDOG_H
#define CICADA_HOST_WATCHDOG_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/host/invocation.h"

struct watchdog;

struct watchdog_settings {
    int lanes;          /* of the invocations: numbers below this */
    int64_t timeout_ms; /* its thread looks at least this often; no stream may be silent for less */
    int64_t grace_ms;   /* for the end of a transaction, and for watchdog_stuck() */
    /* Answers in the handler's place, without waiting; on the watchdog's thread. The invocation's state tells why. */
    void (*answer)(void *arg, struct invocation *invocation);
    void *answer_arg;
};

int watchdog_new(const struct watchdog_settings *settings, struct watchdog **ret_watchdog,
                 struct err *err) MUST_CHECK;
void watchdog_free(struct watchdog *watchdog); /* nothing may be left in it; NULL is fine */

/* From here on its deadline counts. */
void watchdog_add(struct watchdog *watchdog, struct invocation *invocation);
/* True if it was answered; such an answer is complete. */
bool watchdog_remove(struct watchdog *watchdog, struct invocation *invocation);

/* True if a handler is later than its deadline and the grace; ret_request_id names its request. */
bool watchdog_stuck(struct watchdog *watchdog, char ret_request_id[REQUEST_ID_MAX + 1]);

#endif
