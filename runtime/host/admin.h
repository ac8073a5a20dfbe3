/* admin.h - the admin port: /livez, /readyz, /metrics, /statz, on a server of its own so that it always answers.
 *
 * Threads: any. It listens before there is a service; admin_set_service() makes the figures visible.
 */
#ifndef CICADA_HOST_ADMIN_H
#define CICADA_HOST_ADMIN_H

#include "runtime/base/err.h"
#include "runtime/base/metrics.h"
#include "runtime/host/crash_board.h"
#include "runtime/host/event_service.h"
#include "runtime/host/host_metrics.h"
#include "runtime/host/lifecycle.h"
#include "runtime/host/service.h"

struct admin;

#define ADMIN_THREADS 4

struct admin_settings {
    const char *listen;
    struct lifecycle *lifecycle; /* borrowed, as all below */
    const struct crash_board *board;
    struct metrics *metrics;
    struct host_metrics *host_metrics;
};

int admin_start(const struct admin_settings *settings, struct admin **ret_admin, struct err *err) MUST_CHECK;
void admin_set_service(struct admin *admin, struct service *service);     /* must live until admin_stop() */
void admin_set_events(struct admin *admin, struct event_service *events); /* as well */
void admin_stop(struct admin *admin); /* stops listening and frees; NULL is fine */

#endif
