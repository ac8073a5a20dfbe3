#include "operator/gateway/announce.h"

#include <arpa/inet.h>
#include <stdatomic.h>
#include <string.h>

#include "operator/gateway/announce_port.h"
#include "operator/gateway/kube_log_turn.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"

#define THREADS         24
#define WAITING_MAX     16   /* of those threads; the rest answers at once */
#define UNKNOWN_POD_MS  5000 /* how long the pod cache is waited for */
#define CALL_TIMEOUT_MS 2000 /* of the questions to the API server */

struct announce {
    struct announce_settings settings;
    struct announce_check check;
    struct announce_port *port;
    atomic_int waiting;
    struct kube_log_turn refused;
    struct metric *duration;
};

/* ---- deciding ---- */

static bool is_the_pod(const struct kube_pod *pod, const struct announcement *said)
{
    return pod && strcmp(pod->object.uid, said->pod_uid) == 0 && pod->node;
}

/* The pod once the cache knows it and its node, with a reference; NULL if that takes too long. */
static struct kube_pod *await_pod(struct announce *announce, const struct announcement *said)
{
    struct kube_catalog *catalog = announce->settings.catalog;
    int64_t deadline_ms = clock_monotonic_ms() + UNKNOWN_POD_MS;
    bool may_wait = atomic_fetch_add(&announce->waiting, 1) < WAITING_MAX;
    struct kube_pod *pod = NULL;
    for (;;) {
        uint64_t seen = kube_catalog_pod_changes(catalog);
        pod = kube_catalog_pod(catalog, said->namespace, said->pod_name);
        if (is_the_pod(pod, said)) {
            break;
        }
        if (pod) {
            cached_object_unref(&pod->object);
            pod = NULL;
        }
        if (!may_wait || !kube_catalog_pod_wait(catalog, seen, deadline_ms)) {
            break;
        }
    }
    atomic_fetch_sub(&announce->waiting, 1);
    return pod;
}

/* The API may have shown the pod's own, different address while the announcement was verified: that one counts. */
static bool drop_if_contradicted(struct announce *announce, const struct announcement *said)
{
    struct kube_pod *pod = kube_catalog_pod(announce->settings.catalog, said->namespace, said->pod_name);
    bool contradicted = pod && strcmp(pod->object.uid, said->pod_uid) == 0 && pod->has_address &&
                        pod->address.s_addr != said->from.s_addr;
    if (contradicted) {
        kube_catalog_pod_again(announce->settings.catalog, pod);
    }
    if (pod) {
        cached_object_unref(&pod->object);
    }
    return contradicted;
}

static struct announce_answer act(struct announce *announce, const struct announcement *said)
{
    struct gateway *gateway = announce->settings.gateway;
    if (said->goodbye) {
        return gateway_pod_goodbye(gateway, said->pod_uid) ? announce_accepted : announce_not_known_yet;
    }
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)said->port), .sin_addr = said->from};
    if (!gateway_pod_announced(gateway, said->pod_uid, &address)) {
        return announce_not_known_yet; /* the cache has it, the core is about to */
    }
    if (drop_if_contradicted(announce, said)) {
        return (struct announce_answer){403, "refused", "the pod has another address"};
    }
    return announce_accepted;
}

static struct announce_answer verify(struct announce *announce, const struct announcement *said)
{
    struct kube_pod *pod = await_pod(announce, said);
    if (!pod) {
        return announce_not_known_yet;
    }
    struct announce_answer answer = announce_not_known_yet;
    struct err err = ERR_INIT;
    const char *reason = NULL;
    int64_t start_us = clock_monotonic_us();
    if (strcmp(pod->function, said->function) != 0) {
        answer = (struct announce_answer){403, "refused", "the pod is another function's"};
    } else if (!said->goodbye && pod->state == GATEWAY_POD_TERMINATING) {
        answer = (struct announce_answer){403, "refused", "the pod is about to go"};
    } else {
        switch (announce_check_address(&announce->check, pod, said->from, &reason, &err)) {
        case ANNOUNCE_BELIEVED:
            answer = act(announce, said);
            break;
        case ANNOUNCE_NOT_YET:
            log_debug("announcement of %s/%s: %s: %s", said->namespace, said->pod_name, reason, err.msg);
            break;
        case ANNOUNCE_REFUSED:
            answer = (struct announce_answer){403, "refused", reason};
            break;
        }
    }
    metric_observe(announce->duration, (double)(clock_monotonic_us() - start_us) / 1e6);
    cached_object_unref(&pod->object);
    return answer;
}

static struct announce_answer decide(void *arg, const struct announcement *said)
{
    struct announce *announce = arg;
    if (!announce->settings.enabled) {
        return (struct announce_answer){403, "disabled", "announcements are turned off"};
    }
    /* A pod that never came to listen says goodbye without a port. */
    if (!said->goodbye && said->port != KUBE_FUNCTION_PORT) {
        return (struct announce_answer){400, "malformed", "port must be 8080"};
    }
    struct announce_answer answer = verify(announce, said);
    int64_t refused = answer.status == 403 ? kube_log_turn_take(&announce->refused) : 0;
    if (refused > 0) {
        char from[INET_ADDRSTRLEN];
        log_warn("%s of %s/%s from %s is refused: %s (%lld refusals since the last such line)",
                 said->goodbye ? "goodbye" : "announce", said->namespace, said->pod_name,
                 inet_ntop(AF_INET, &said->from, from, sizeof(from)), answer.detail, (long long)refused);
    }
    return answer;
}

static int count_gateways(void *arg)
{
    const struct announce *announce = arg;
    return gateway_peers(announce->settings.gateway);
}

static void announce_free(struct announce *announce)
{
    kube_client_free(announce->check.client);
    kube_log_turn_release(&announce->refused);
    free(announce);
}

int announce_start(const struct announce_settings *settings, struct announce **ret_announce, struct err *err)
{
    struct announce *announce = xcalloc(1, sizeof(*announce));
    announce->settings = *settings;
    announce->check = (struct announce_check){
        .client = kube_client_new_derived(settings->client, CALL_TIMEOUT_MS),
        .ranges = settings->ranges,
        .namespaces = settings->namespaces,
        .namespace_count = settings->namespace_count,
    };
    kube_log_turn_init(&announce->refused);
    announce->duration = metric_family_get(
        metrics_histogram(settings->metrics, "cicada_gateway_announcement_check_duration_seconds",
                          "Time from knowing the pod to the answer.", /* label_names= */ NULL,
                          metrics_latency_bounds, metrics_latency_bound_count),
        /* label_values= */ NULL);
    struct announce_port_settings port = {
        .listen = settings->listen,
        .threads = THREADS,
        .decide = decide,
        .gateways = count_gateways,
        .arg = announce,
        .metrics = settings->metrics,
    };
    if (announce_port_start(&port, &announce->port, err) < 0) {
        announce_free(announce);
        return -1;
    }
    *ret_announce = announce;
    return 0;
}

int announce_port(const struct announce *announce)
{
    return announce_port_number(announce->port);
}

void announce_stop(struct announce *announce)
{
    if (!announce) {
        return;
    }
    kube_catalog_pod_wait_end(announce->settings.catalog);
    announce_port_stop(announce->port);
    announce_free(announce);
}
