/* metrics.h - counters, gauges and histograms in Prometheus text format (version 0.0.4).
 *
 * Names follow Prometheus: cicada_..., base units, _total on counters. A family has a fixed list of label names; a
 * metric is one combination of values. Families of no label have their one metric from the start, at 0. Registering a
 * name twice is a mistake of the program, and asserts: two parts would count into each other's figures, or only one be shown.
 *
 * Ownership: the registry owns all; metric pointers are valid until metric_family_remove() or metrics_free().
 * Threads: any. Updates are lock-free, creating a metric takes the family's lock.
 */
#ifndef CICADA_BASE_METRICS_H
#define CICADA_BASE_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/strbuf.h"

struct metrics;
struct metric_family;
struct metric;

#define METRICS_LABELS_MAX     6
#define METRICS_TEXT_MAX_BYTES (64u << 20)

struct metrics *metrics_new(void);
void metrics_free(struct metrics *metrics);

/* label_names: NULL-terminated array of borrowed literals, or NULL for none. */
struct metric_family *metrics_counter(struct metrics *metrics, const char *name, const char *help,
                                      const char *const *label_names);
struct metric_family *metrics_gauge(struct metrics *metrics, const char *name, const char *help,
                                    const char *const *label_names);
/* upper_bounds: ascending, without +Inf. */
struct metric_family *metrics_histogram(struct metrics *metrics, const char *name, const char *help,
                                        const char *const *label_names, const double *upper_bounds,
                                        size_t bound_count);
/* 1 ms to 60 s, for request durations in seconds. */
extern const double metrics_latency_bounds[];
extern const size_t metrics_latency_bound_count;

/* label_values: as many as label names (NULL if none). Creates the metric at 0 on first use. */
struct metric *metric_family_get(struct metric_family *family, const char *const *label_values);
/* Removes every metric whose first labels equal the given prefix (function deleted). */
void metric_family_remove(struct metric_family *family, const char *const *label_prefix, size_t prefix_count);

void metric_add(struct metric *metric, double value);     /* counter (>= 0) or gauge */
void metric_set(struct metric *metric, double value);     /* gauge */
void metric_observe(struct metric *metric, double value); /* histogram */
/* Observations that were counted elsewhere: how many for each bound (values up to it, and above the one before), one more for those
 * above all, and the sum of their values. */
void metric_observe_counts(struct metric *metric, const uint64_t *bucket_counts, double sum);
double metric_value(struct metric *metric); /* counter or gauge; histogram: count */
/* The value below which that share (0 to 1) of a histogram's observations lies, even within its bucket (as Prometheus'
 * histogram_quantile()); the highest bound if it lies above that. NaN: there are no observations. */
double metric_quantile(struct metric *metric, double share);

int metrics_render(struct metrics *metrics, struct strbuf *out); /* -1: above the buffer's cap */

#endif
