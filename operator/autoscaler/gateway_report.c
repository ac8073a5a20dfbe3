#include "operator/autoscaler/gateway_report.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/json_reader.h"
#include "runtime/base/mem.h"

#define REPORT_DEPTH_MAX 8

static int64_t read_count(const struct json_node *object, const char *name)
{
    int64_t value = 0;
    const struct json_node *node = json_node_member(object, name);
    return node && json_node_int64(node, &value) && value > 0 ? value : 0;
}

static int read_figures(const struct json_node *node, struct gateway_figures *figures, struct err *err)
{
    const struct json_node *namespace = json_node_member(node, "namespace"),
                           *name = json_node_member(node, "name");
    size_t ignored;
    const char *namespace_text = namespace ? json_node_string(namespace, &ignored) : NULL;
    const char *name_text = name ? json_node_string(name, &ignored) : NULL;
    if (!namespace_text || !name_text) {
        return err_set(err, ERR_INVALID, "statz: a function without namespace or name");
    }
    figures->key = xasprintf("%s/%s", namespace_text, name_text);
    figures->in_flight = read_count(node, "inFlight");
    figures->waiting = read_count(node, "waiting");
    figures->in_flight_ms = read_count(node, "inFlightMs");
    figures->waiting_ms = read_count(node, "waitingMs");
    figures->idle_ms = read_count(node, "idleMs");
    return 0;
}

static int compare_figures(const void *a, const void *b)
{
    const struct gateway_figures *left = a, *right = b;
    return strcmp(left->key, right->key);
}

static int read_report(const struct json_node *root, struct gateway_report *report, struct err *err)
{
    const struct json_node *uptime = json_node_member(root, "uptimeMs"),
                           *list = json_node_member(root, "functions");
    if (!uptime || !json_node_int64(uptime, &report->uptime_ms) || report->uptime_ms < 0 || !list ||
        json_node_type(list) != JSON_ARRAY) {
        return err_set(err, ERR_INVALID, "statz: uptimeMs or functions is missing");
    }
    report->figures = xcalloc(json_node_count(list) + 1, sizeof *report->figures);
    for (const struct json_node *node = json_node_first(list); node; node = json_node_next(node)) {
        if (read_figures(node, &report->figures[report->count], err)) {
            return -1;
        }
        report->count++;
    }
    if (report->count > 1) {
        qsort(report->figures, report->count, sizeof *report->figures, compare_figures);
    }
    return 0;
}

int gateway_report_parse(const char *text, size_t len, struct gateway_report **ret_report, struct err *err)
{
    struct json_doc *doc = NULL;
    if (json_reader_parse(text, len, REPORT_DEPTH_MAX, &doc, err)) {
        return err_wrap(err, "statz");
    }
    struct gateway_report *report = xcalloc(1, sizeof *report);
    int result = read_report(json_doc_root(doc), report, err);
    json_doc_free(doc);
    if (result) {
        gateway_report_free(report);
        return -1;
    }
    *ret_report = report;
    return 0;
}

void gateway_report_free(struct gateway_report *report)
{
    if (!report) {
        return;
    }
    for (size_t i = 0; i < report->count; i++) {
        free(report->figures[i].key);
    }
    free(report->figures);
    free(report);
}

static int compare_key(const void *key, const void *figures)
{
    const struct gateway_figures *right = figures;
    return strcmp(key, right->key);
}

static const struct gateway_figures *find(const struct gateway_report *report, const char *key)
{
    if (!report || report->count == 0) {
        return NULL;
    }
    return bsearch(key, report->figures, report->count, sizeof *report->figures, compare_key);
}

struct gateway_load gateway_report_load(const struct gateway_report *before, const struct gateway_report *now,
                                        const char *key)
{
    const struct gateway_figures *figures = find(now, key), *old = find(before, key);
    if (!figures) {
        /* A gateway's start counts as activity. */
        int64_t idle_ms = now->uptime_ms < GATEWAY_REPORT_UNLISTED_IDLE_MS ? now->uptime_ms
                                                                           : GATEWAY_REPORT_UNLISTED_IDLE_MS;
        return (struct gateway_load){.idle_ms = idle_ms};
    }
    struct gateway_load load = {.mean = (double)(figures->in_flight + figures->waiting),
                                .in_flight = figures->in_flight,
                                .waiting = figures->waiting,
                                .idle_ms = figures->idle_ms};
    /* Without figures of before, what it shows now is all there is to go by. */
    int64_t span_ms = old ? now->uptime_ms - before->uptime_ms : 0;
    int64_t sum_ms = figures->in_flight_ms + figures->waiting_ms;
    int64_t old_sum_ms = old ? old->in_flight_ms + old->waiting_ms : 0;
    if (span_ms > 0 && sum_ms >= old_sum_ms) {
        load.mean = (double)(sum_ms - old_sum_ms) / (double)span_ms;
    }
    return load;
}
