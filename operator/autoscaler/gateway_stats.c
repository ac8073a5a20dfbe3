#include "operator/autoscaler/gateway_stats.h"

#include <stdlib.h>
#include <string.h>

#include "operator/autoscaler/gateway_report.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/http/http_client.h"

#define CONNECT_TIMEOUT_MS 300
#define READ_TIMEOUT_MS    800

struct source {
    struct source *next;
    char *uid, *ip;
    struct http_client *client;
    struct gateway_report *before, *now; /* now NULL: the last poll could not read it */
    int64_t read_ms;                     /* last success, or when it was met first */
    bool ready, listed;
};

struct gateway_stats {
    int port;
    const struct stop *stop;
    struct source *sources;
    int64_t polled_ms;
};

struct gateway_stats *gateway_stats_new(int port, const struct stop *stop)
{
    struct gateway_stats *stats = xcalloc(1, sizeof *stats);
    stats->port = port;
    stats->stop = stop;
    return stats;
}

static void free_source(struct source *source)
{
    http_client_free(source->client);
    gateway_report_free(source->before);
    gateway_report_free(source->now);
    free(source->uid);
    free(source->ip);
    free(source);
}

void gateway_stats_free(struct gateway_stats *stats)
{
    if (!stats) {
        return;
    }
    while (stats->sources) {
        struct source *source = stats->sources;
        stats->sources = source->next;
        free_source(source);
    }
    free(stats);
}

static struct source *find_or_add(struct gateway_stats *stats, const struct gateway_address *gateway)
{
    for (struct source *source = stats->sources; source; source = source->next) {
        if (strcmp(source->uid, gateway->uid) == 0 && strcmp(source->ip, gateway->ip) == 0) {
            return source;
        }
    }
    CLEANUP_FREE char *url = xasprintf("http://%s:%d", gateway->ip, stats->port);
    struct http_client_settings settings = {
        .base_url = url, .connect_timeout_ms = CONNECT_TIMEOUT_MS, .stop = stats->stop};
    struct source *source = xcalloc(1, sizeof *source);
    source->uid = xstrdup(gateway->uid);
    source->ip = xstrdup(gateway->ip);
    source->client = http_client_new(&settings);
    source->read_ms = clock_monotonic_ms();
    source->next = stats->sources;
    stats->sources = source;
    return source;
}

static int fetch(struct source *source, struct gateway_report **ret_report, struct err *err)
{
    struct http_client_request request = {.method = "GET",
                                          .path_and_query = "/statz",
                                          .timeout_ms = READ_TIMEOUT_MS,
                                          .max_response_bytes = GATEWAY_REPORT_MAX_BYTES};
    struct http_client_response response;
    if (http_client_request(source->client, &request, &response, err)) {
        return -1;
    }
    int result = response.status == 200
                     ? gateway_report_parse(response.body.buf, response.body.len, ret_report, err)
                     : err_set(err, ERR_UNAVAILABLE, "statz: status %d", response.status);
    http_client_response_release(&response);
    return result;
}

/* A gateway that was restarted in its pod begins anew: what was before says nothing. */
static void take_report(struct source *source, struct gateway_report *report)
{
    struct gateway_report *last = source->now;
    source->now = report;
    if (!report) {
        gateway_report_free(last);
        return;
    }
    source->read_ms = clock_monotonic_ms();
    if (last) {
        gateway_report_free(source->before);
        source->before = last;
    }
    if (source->before && source->before->uptime_ms > report->uptime_ms) {
        gateway_report_free(source->before);
        source->before = NULL;
    }
}

static void drop_unlisted(struct gateway_stats *stats)
{
    for (struct source **at = &stats->sources; *at;) {
        struct source *source = *at;
        if (source->listed) {
            at = &source->next;
        } else {
            *at = source->next;
            free_source(source);
        }
    }
}

size_t gateway_stats_poll(struct gateway_stats *stats, const struct gateway_address *gateways, size_t count)
{
    size_t failed = 0;
    for (struct source *source = stats->sources; source; source = source->next) {
        source->listed = false;
    }
    for (size_t i = 0; i < count; i++) {
        struct source *source = find_or_add(stats, &gateways[i]);
        struct gateway_report *report = NULL;
        struct err err = ERR_INIT;
        source->listed = true;
        source->ready = gateways[i].ready;
        failed += fetch(source, &report, &err) ? 1 : 0;
        take_report(source, report);
    }
    drop_unlisted(stats);
    stats->polled_ms = clock_monotonic_ms();
    return failed;
}

struct autoscaler_load gateway_stats_load(const struct gateway_stats *stats, const char *namespace,
                                          const char *name)
{
    CLEANUP_FREE char *key = xasprintf("%s/%s", namespace, name);
    struct autoscaler_load sum = {.at_ms = stats->polled_ms, .quiet_ms = INT64_MAX, .complete = true};
    for (const struct source *source = stats->sources; source; source = source->next) {
        if (!source->now) {
            bool lost = !source->ready && stats->polled_ms - source->read_ms > GATEWAY_STATS_LOST_MS;
            sum.complete = sum.complete && lost;
            continue;
        }
        struct gateway_load load = gateway_report_load(source->before, source->now, key);
        sum.any = true;
        sum.mean += load.mean;
        sum.in_flight += load.in_flight;
        sum.waiting += load.waiting;
        sum.quiet_ms = load.idle_ms < sum.quiet_ms ? load.idle_ms : sum.quiet_ms;
    }
    sum.complete = sum.complete && sum.any;
    return sum;
}
