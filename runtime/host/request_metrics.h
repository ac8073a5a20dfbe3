/* request_metrics.h - the requests of the function port, counted by status and time.
 *
 * Threads: any. Nothing is locked, but when a status is answered for the first time.
 */
#ifndef CICADA_HOST_REQUEST_METRICS_H
#define CICADA_HOST_REQUEST_METRICS_H

#include <stdint.h>

#include "runtime/base/metrics.h"

#define REQUEST_STATUS_MIN 100
#define REQUEST_STATUS_MAX 599

struct request_metrics;

/* Statuses that the runtime itself gives are there at 0 from the start. */
struct request_metrics *request_metrics_new(struct metrics *metrics);
void request_metrics_free(struct request_metrics *requests);
/* This status will be answered, too. */
void request_metrics_expect(struct request_metrics *requests, int status);

/* status: REQUEST_STATUS_MIN to _MAX. */
void request_metrics_answered(struct request_metrics *requests, int status, int64_t took_us);
void request_metrics_retried(struct request_metrics *requests, int retries);
int64_t request_metrics_served(struct request_metrics *requests); /* answers so far */

#endif
