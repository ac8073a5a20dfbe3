/* host_metrics.h - the runtime's gauges and the pool's figures: read where they are kept, when /metrics is asked for.
 *
 * Threads: any.
 */
#ifndef CICADA_HOST_HOST_METRICS_H
#define CICADA_HOST_HOST_METRICS_H

#include <stdint.h>

#include "runtime/base/metrics.h"
#include "runtime/host/service.h"
#include "runtime/postgres/postgres.h"

struct host_metrics;

/* restarts: how many workers came before this one. */
struct host_metrics *host_metrics_new(struct metrics *metrics, int restarts);
void host_metrics_free(struct host_metrics *host);

/* How long a phase of the start took: "load", "listen". */
void host_metrics_start_phase(struct host_metrics *host, const char *phase, int64_t took_us);
/* service and pool may be NULL: nothing is known of them. */
void host_metrics_update(struct host_metrics *host, struct service *service, struct pg_pool *pool);

#endif
