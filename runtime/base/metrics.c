#include "runtime/base/metrics.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"

const double metrics_latency_bounds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                         0.5,   1,      2.5,   5,    10,    30,   60};
const size_t metrics_latency_bound_count = ARRAY_SIZE(metrics_latency_bounds);

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

static const char *const type_names[] = {"counter", "gauge", "histogram"};

struct metric {
    struct metric_family *family;
    struct metric *next;        /* in order of creation; guarded by the family's mu */
    struct metric *bucket_next; /* in the hash table; guarded by the family's mu */
    uint64_t hash;
    char **label_values;
    _Atomic uint64_t value;           /* bits of a double: the value, or a histogram's sum */
    _Atomic uint64_t bucket_counts[]; /* histograms: one for each bound and one for +Inf */
};

struct metric_family {
    struct metric_family *next; /* guarded by the registry's mu */
    char *name, *help;
    enum metric_type type;
    const char *label_names[METRICS_LABELS_MAX];
    size_t label_count;
    double *bounds;
    size_t bound_count;

    pthread_mutex_t mu; /* a leaf */
    struct metric *first, *last;
    struct metric **table; /* chained, table_size is a power of two */
    size_t table_size, count;
};

struct metrics {
    pthread_mutex_t mu; /* taken before a family's */
    struct metric_family *first, *last;
};

static uint64_t bits_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static double double_of(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static double load_value(struct metric *metric)
{
    return double_of(atomic_load_explicit(&metric->value, memory_order_relaxed));
}

struct metrics *metrics_new(void)
{
    struct metrics *metrics = xcalloc(1, sizeof(*metrics));
    pthread_mutex_init(&metrics->mu, NULL);
    return metrics;
}

static void metric_free(struct metric *metric)
{
    for (size_t i = 0; i < metric->family->label_count; i++) {
        free(metric->label_values[i]);
    }
    free(metric->label_values);
    free(metric);
}

static void family_free(struct metric_family *family)
{
    for (struct metric *metric = family->first, *next; metric; metric = next) {
        next = metric->next;
        metric_free(metric);
    }
    pthread_mutex_destroy(&family->mu);
    free(family->table);
    free(family->bounds);
    free(family->name);
    free(family->help);
    free(family);
}

void metrics_free(struct metrics *metrics)
{
    if (!metrics) {
        return;
    }
    for (struct metric_family *family = metrics->first, *next; family; family = next) {
        next = family->next;
        family_free(family);
    }
    pthread_mutex_destroy(&metrics->mu);
    free(metrics);
}

static struct metric_family *family_add(struct metrics *metrics, enum metric_type type, const char *name,
                                        const char *help, const char *const *label_names)
{
    struct metric_family *family = xcalloc(1, sizeof(*family));
    family->type = type;
    family->name = xstrdup(name);
    family->help = xstrdup(help);
    for (; label_names && label_names[family->label_count]; family->label_count++) {
        assert(family->label_count < METRICS_LABELS_MAX);
        family->label_names[family->label_count] = label_names[family->label_count];
    }
    family->table_size = 16;
    family->table = xcalloc(family->table_size, sizeof(struct metric *));
    pthread_mutex_init(&family->mu, NULL);

    pthread_mutex_lock(&metrics->mu);
    for (struct metric_family *other = metrics->first; other; other = other->next) {
        assert(strcmp(other->name, name) != 0);
    }
    *(metrics->last ? &metrics->last->next : &metrics->first) = family;
    metrics->last = family;
    pthread_mutex_unlock(&metrics->mu);
    return family;
}

static void add_unlabelled(struct metric_family *family)
{
    static const char *const no_values[1];
    if (family->label_count == 0) {
        metric_family_get(family, no_values);
    }
}

struct metric_family *metrics_counter(struct metrics *metrics, const char *name, const char *help,
                                      const char *const *label_names)
{
    struct metric_family *family = family_add(metrics, METRIC_COUNTER, name, help, label_names);
    add_unlabelled(family);
    return family;
}

struct metric_family *metrics_gauge(struct metrics *metrics, const char *name, const char *help,
                                    const char *const *label_names)
{
    struct metric_family *family = family_add(metrics, METRIC_GAUGE, name, help, label_names);
    add_unlabelled(family);
    return family;
}

struct metric_family *metrics_histogram(struct metrics *metrics, const char *name, const char *help,
                                        const char *const *label_names, const double *upper_bounds,
                                        size_t bound_count)
{
    struct metric_family *family = family_add(metrics, METRIC_HISTOGRAM, name, help, label_names);
    pthread_mutex_lock(&family->mu);
    family->bounds = xmemdup(upper_bounds, bound_count * sizeof(double));
    family->bound_count = bound_count;
    pthread_mutex_unlock(&family->mu);
    add_unlabelled(family);
    return family;
}

static uint64_t hash_labels(const struct metric_family *family, const char *const *label_values)
{
    uint64_t hash = HASH_FNV1A_START;
    for (size_t i = 0; i < family->label_count; i++) {
        hash = hash_fnv1a(hash, label_values[i], strlen(label_values[i]) + 1);
    }
    return hash;
}

static bool has_labels(const struct metric *metric, const char *const *label_values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(metric->label_values[i], label_values[i]) != 0) {
            return false;
        }
    }
    return true;
}

static void table_insert(struct metric_family *family, struct metric *metric)
{
    struct metric **bucket = &family->table[metric->hash & (family->table_size - 1)];
    metric->bucket_next = *bucket;
    *bucket = metric;
}

/* Also after removals: from the list, which holds all. */
static void table_rebuild(struct metric_family *family, size_t size)
{
    free(family->table);
    family->table = xcalloc(size, sizeof(struct metric *));
    family->table_size = size;
    for (struct metric *metric = family->first; metric; metric = metric->next) {
        table_insert(family, metric);
    }
}

static struct metric *metric_new(struct metric_family *family, const char *const *label_values, uint64_t hash)
{
    size_t buckets = family->type == METRIC_HISTOGRAM ? family->bound_count + 1 : 0;
    struct metric *metric = xcalloc(1, sizeof(*metric) + buckets * sizeof(metric->bucket_counts[0]));
    metric->family = family;
    metric->hash = hash;
    metric->label_values = xcalloc(family->label_count, sizeof(char *));
    for (size_t i = 0; i < family->label_count; i++) {
        metric->label_values[i] = xstrdup(label_values[i]);
    }
    return metric;
}

struct metric *metric_family_get(struct metric_family *family, const char *const *label_values)
{
    uint64_t hash = hash_labels(family, label_values);
    pthread_mutex_lock(&family->mu);
    struct metric *metric = family->table[hash & (family->table_size - 1)];
    while (metric && (metric->hash != hash || !has_labels(metric, label_values, family->label_count))) {
        metric = metric->bucket_next;
    }
    if (!metric) {
        metric = metric_new(family, label_values, hash);
        *(family->last ? &family->last->next : &family->first) = metric;
        family->last = metric;
        table_insert(family, metric);
        if (++family->count > family->table_size) {
            table_rebuild(family, family->table_size * 2);
        }
    }
    pthread_mutex_unlock(&family->mu);
    return metric;
}

void metric_family_remove(struct metric_family *family, const char *const *label_prefix, size_t prefix_count)
{
    assert(prefix_count <= family->label_count);
    pthread_mutex_lock(&family->mu);
    struct metric *removed = NULL;
    family->last = NULL;
    for (struct metric **link = &family->first; *link;) {
        struct metric *metric = *link;
        if (has_labels(metric, label_prefix, prefix_count)) {
            *link = metric->next;
            metric->next = removed;
            removed = metric;
            family->count--;
        } else {
            family->last = metric;
            link = &metric->next;
        }
    }
    if (removed) {
        table_rebuild(family, family->table_size);
    }
    pthread_mutex_unlock(&family->mu);
    for (struct metric *next; removed; removed = next) {
        next = removed->next;
        metric_free(removed);
    }
}

void metric_add(struct metric *metric, double value)
{
    uint64_t old = atomic_load_explicit(&metric->value, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&metric->value, &old, bits_of(double_of(old) + value),
                                                  memory_order_relaxed, memory_order_relaxed)) {}
}

void metric_set(struct metric *metric, double value)
{
    atomic_store_explicit(&metric->value, bits_of(value), memory_order_relaxed);
}

void metric_observe(struct metric *metric, double value)
{
    const struct metric_family *family = metric->family;
    assert(family->type == METRIC_HISTOGRAM);
    size_t bucket = 0;
    while (bucket < family->bound_count && value > family->bounds[bucket]) {
        bucket++;
    }
    atomic_fetch_add_explicit(&metric->bucket_counts[bucket], 1, memory_order_relaxed);
    metric_add(metric, value);
}

void metric_observe_counts(struct metric *metric, const uint64_t *bucket_counts, double sum)
{
    const struct metric_family *family = metric->family;
    assert(family->type == METRIC_HISTOGRAM);
    for (size_t i = 0; i <= family->bound_count; i++) {
        atomic_fetch_add_explicit(&metric->bucket_counts[i], bucket_counts[i], memory_order_relaxed);
    }
    metric_add(metric, sum);
}

double metric_value(struct metric *metric)
{
    const struct metric_family *family = metric->family;
    if (family->type != METRIC_HISTOGRAM) {
        return load_value(metric);
    }
    uint64_t count = 0;
    for (size_t i = 0; i <= family->bound_count; i++) {
        count += atomic_load_explicit(&metric->bucket_counts[i], memory_order_relaxed);
    }
    return (double)count;
}

double metric_quantile(struct metric *metric, double share)
{
    const struct metric_family *family = metric->family;
    assert(family->type == METRIC_HISTOGRAM);
    double rank = metric_value(metric) * share, below = 0;
    for (size_t i = 0; i < family->bound_count; i++) {
        double count = (double)atomic_load_explicit(&metric->bucket_counts[i], memory_order_relaxed);
        if (count > 0 && below + count >= rank) {
            double low = i > 0 ? family->bounds[i - 1] : 0;
            return low + (family->bounds[i] - low) * fmax(rank - below, 0) / count;
        }
        below += count;
    }
    return rank > 0 ? family->bounds[family->bound_count - 1] : NAN;
}

static void append_number(struct strbuf *out, double value)
{
    char digits[FORMAT_DOUBLE_SIZE];
    if (isfinite(value)) {
        strbuf_append(out, digits, format_double(value, digits));
    } else {
        strbuf_append_str(out, isnan(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf");
    }
}

/* Backslash and newline are escaped everywhere, quotes in label values only. */
static void append_escaped(struct strbuf *out, const char *text, bool quotes)
{
    size_t len = strlen(text);
    for (size_t i = 0; i < len;) {
        size_t sequence = utf8_sequence_len(text + i, len - i);
        if (sequence == 0) {
            strbuf_append_str(out, "\xEF\xBF\xBD");
            i++;
            continue;
        }
        if (text[i] == '\n') {
            strbuf_append_str(out, "\\n");
        } else {
            if (text[i] == '\\' || (quotes && text[i] == '"')) {
                strbuf_append_char(out, '\\');
            }
            strbuf_append(out, text + i, sequence);
        }
        i += sequence;
    }
}

/* One sample line; le: the bound of a histogram's bucket, or NULL. */
static void append_sample(struct strbuf *out, const struct metric *metric, const char *suffix, const char *le,
                          double value)
{
    const struct metric_family *family = metric->family;
    strbuf_append_str(out, family->name);
    strbuf_append_str(out, suffix);
    char separator = '{';
    for (size_t i = 0; i < family->label_count; i++) {
        strbuf_append_char(out, separator);
        strbuf_append_str(out, family->label_names[i]);
        strbuf_append_str(out, "=\"");
        append_escaped(out, metric->label_values[i], /* quotes= */ true);
        strbuf_append_char(out, '"');
        separator = ',';
    }
    if (le) {
        strbuf_appendf(out, "%cle=\"%s\"", separator, le);
        separator = ',';
    }
    strbuf_append_str(out, separator == ',' ? "} " : " ");
    append_number(out, value);
    strbuf_append_char(out, '\n');
}

/* The count is the sum of the buckets, so that a scrape during updates is consistent in itself. */
static void append_histogram(struct strbuf *out, struct metric *metric)
{
    const struct metric_family *family = metric->family;
    uint64_t count = 0;
    for (size_t i = 0; i <= family->bound_count; i++) {
        count += atomic_load_explicit(&metric->bucket_counts[i], memory_order_relaxed);
        char le[FORMAT_DOUBLE_SIZE] = "+Inf";
        if (i < family->bound_count) {
            format_double(family->bounds[i], le);
        }
        append_sample(out, metric, "_bucket", le, (double)count);
    }
    append_sample(out, metric, "_sum", NULL, load_value(metric));
    append_sample(out, metric, "_count", NULL, (double)count);
}

static void append_family(struct strbuf *out, struct metric_family *family)
{
    pthread_mutex_lock(&family->mu);
    if (family->first) {
        strbuf_appendf(out, "# HELP %s ", family->name);
        append_escaped(out, family->help, /* quotes= */ false);
        strbuf_appendf(out, "\n# TYPE %s %s\n", family->name, type_names[family->type]);
    }
    for (struct metric *metric = family->first; metric && !strbuf_failed(out); metric = metric->next) {
        if (family->type == METRIC_HISTOGRAM) {
            append_histogram(out, metric);
        } else {
            append_sample(out, metric, "", NULL, load_value(metric));
        }
    }
    pthread_mutex_unlock(&family->mu);
}

int metrics_render(struct metrics *metrics, struct strbuf *out)
{
    pthread_mutex_lock(&metrics->mu);
    for (struct metric_family *family = metrics->first; family; family = family->next) {
        append_family(out, family);
    }
    pthread_mutex_unlock(&metrics->mu);
    return strbuf_failed(out) ? -1 : 0;
}
