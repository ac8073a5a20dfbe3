/* request_metrics.h - the requests of the function port, counted by status and time.
 *
 * What is answered with each request is counted in the lane of its thread (http_server.h) first, and collected when somebody asks.
 *
 * Threads: any. Nothing is locked, but when a status is answered for the first time.
 */
#ifndef CICADA_HOST_REQUEST_METRICS_H
#define CICADA_HOST_REQUEST_METRICS_H

#include <stdint.h>

#include "runtime/base/metrics.h"

#define REQUEST_STATUS_MIN 100
#define REQUEST_STATUS_MAX 599

#define REQUEST_DURATIONS 19 /* buckets */

struct request_metrics;

/* Answers of one lane with the usual status that were not collected yet. */
struct request_tally {
    _Atomic uint64_t took_us;
    _Atomic uint64_t durations[REQUEST_DURATIONS];
};

/* Statuses that the runtime itself gives are there at 0 from the start. */
struct request_metrics *request_metrics_new(struct metrics *metrics);
void request_metrics_free(struct request_metrics *requests);
/* This status will be answered, too. */
void request_metrics_expect(struct request_metrics *requests, int status);

/* status: REQUEST_STATUS_MIN to _MAX. */
void request_metrics_answered(struct request_metrics *requests, int status, int64_t took_us);
void request_tally_add(struct request_tally *tally, int64_t took_us);
/* Moves what there is into the metrics of this status. */
void request_metrics_collect(struct request_metrics *requests, struct request_tally *tally, int status);
void request_metrics_retried(struct request_metrics *requests, int retries);
int64_t request_metrics_served(struct request_metrics *requests); /* answers so far, collected ones */

#endif
