#include "runtime/host/announcer.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/monotonic_cond.h"
#include "runtime/base/stacked_thread.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"
#include "runtime/host/http_post.h"

#define TRY_FOR_MS         10000 /* per gateway, and for the name */
#define RETRY_FIRST_MS     50
#define RETRY_MAX_MS       1000
#define RETRY_UNKNOWN_MS   250 /* after 202: the gateway does not know this pod yet */
#define CONNECT_TIMEOUT_MS 1000
#define CONNECT_GONE_MS    200  /* for an address that the name stands for no more */
#define ANSWER_TIMEOUT_MS  7000 /* a gateway waits up to 5 s for its pod cache */
#define BODY_MAX_BYTES     2048u
#define THREAD_STACK_BYTES (256u << 10)

struct campaign;

/* One gateway in one campaign. */
struct target {
    struct campaign *campaign;
    struct sockaddr_in address;
    pthread_t thread;
    bool has_thread;
    bool named; /* the name stands for it now; else it did when the announcement was made */
    /* written by the target's thread, read after it was joined */
    bool acknowledged, gone;
    int gateways; /* how many there are, by this one */
};

/* One message to all gateways: the announcement, or the goodbye. */
struct campaign {
    struct announcer *announcer;
    const char *path;
    struct stop stop;
    pthread_t thread;
    bool started;      /* the main thread's: `thread` is there, and was not joined */
    bool ended;        /* guarded by announcer->mutex: the thread will return without waiting for anything */
    bool acknowledged; /* guarded by announcer->mutex */
    struct target targets[ANNOUNCER_GATEWAYS_MAX];
    size_t target_count; /* the campaign's thread's; the goodbye reads the announcement's after its end */
};

struct announcer {
    char *host, *lookup_name; /* "name:port" as given, and the absolute name */
    in_port_t gateway_port;   /* network order */
    char *namespace, *function, *pod_name, *pod_uid;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int port; /* guarded by mutex; 0: not serving yet */
    struct campaign announcement, goodbye;
};

/* The message depends on nothing but the announcer; the caller frees it. */
static char *print_message(struct announcer *announcer, int port)
{
    const char *const members[][2] = {
        {"namespace", announcer->namespace},
        {"function", announcer->function},
        {"podName", announcer->pod_name},
        {"podUID", announcer->pod_uid},
    };
    struct strbuf text;

    strbuf_init(&text, BODY_MAX_BYTES);
    for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
        strbuf_appendf(&text, "%c\"%s\":", i == 0 ? '{' : ',', members[i][0]);
        strbuf_append_json_string(&text, members[i][1], strlen(members[i][1]));
    }
    strbuf_appendf(&text, ",\"port\":%d}", port);
    return strbuf_detach(&text, NULL);
}

static int64_t doubled(int64_t wait_ms)
{
    return wait_ms * 2 < RETRY_MAX_MS ? wait_ms * 2 : RETRY_MAX_MS;
}

/* Asks one gateway until it has decided. */
static void *target_main(void *arg)
{
    struct target *target = arg;
    struct campaign *campaign = target->campaign;
    CLEANUP_FREE char *body = print_message(campaign->announcer, campaign->announcer->port);
    const struct http_post post = {
        .address = target->address,
        .host = campaign->announcer->host,
        .path = campaign->path,
        .body = body,
        .connect_timeout_ms = target->named ? CONNECT_TIMEOUT_MS : CONNECT_GONE_MS,
        .answer_timeout_ms = ANSWER_TIMEOUT_MS,
    };
    int64_t until_ms = clock_monotonic_ms() + TRY_FOR_MS;
    int64_t backoff_ms = RETRY_FIRST_MS;
    int64_t wait_ms;

    do {
        struct err err = ERR_INIT;
        struct http_post_answer answer = {0};

        if (http_post_send(&post, &campaign->stop, &answer, &err) != 0)
            log_debug("%s: %s", campaign->path, err.msg);
        if (answer.status == 200)
            target->acknowledged = true;
        target->gateways = answer.gateways;
        if (answer.status == 0 && !target->named) {
            target->gone = true; /* a gateway that ended since: nobody's acknowledgement to wait for */
            break;
        }
        if (answer.status != 0 && answer.status != 202 && answer.status < 500)
            break;
        wait_ms = answer.status == 202 ? RETRY_UNKNOWN_MS : backoff_ms;
        if (answer.status != 202)
            backoff_ms = doubled(backoff_ms);
    } while (clock_monotonic_ms() + wait_ms < until_ms && !stop_wait(&campaign->stop, wait_ms));
    return NULL;
}

static void add_target(struct campaign *campaign, const struct sockaddr_in *address, bool named)
{
    for (size_t i = 0; i < campaign->target_count; i++)
        if (campaign->targets[i].address.sin_addr.s_addr == address->sin_addr.s_addr)
            return;
    if (campaign->target_count == ANNOUNCER_GATEWAYS_MAX)
        return;
    campaign->targets[campaign->target_count++] =
        (struct target){.campaign = campaign, .address = *address, .named = named};
}

static bool resolve_once(struct campaign *campaign)
{
    const struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    int rc = getaddrinfo(campaign->announcer->lookup_name, NULL, &hints, &list);

    if (rc != 0) {
        log_debug("%s: %s", campaign->announcer->lookup_name, gai_strerror(rc));
        return false;
    }
    for (struct addrinfo *at = list; at != NULL; at = at->ai_next) {
        struct sockaddr_in address;
        if (at->ai_addrlen != sizeof(address))
            continue;
        memcpy(&address, at->ai_addr, sizeof(address));
        address.sin_port = campaign->announcer->gateway_port;
        add_target(campaign, &address, /* named= */ true);
    }
    freeaddrinfo(list);
    return campaign->target_count > 0;
}

static void resolve(struct campaign *campaign)
{
    int64_t until_ms = clock_monotonic_ms() + TRY_FOR_MS;
    int64_t wait_ms = RETRY_FIRST_MS;

    while (!stop_is_set(&campaign->stop) && !resolve_once(campaign)) {
        if (clock_monotonic_ms() + wait_ms >= until_ms || stop_wait(&campaign->stop, wait_ms))
            return;
        wait_ms = doubled(wait_ms);
    }
}

/* Speaks to all targets at once; the first one on this thread. True: all that are left have acknowledged, and none knows of more gateways
 * than these: names are cached, and a new gateway may already send requests here. */
static bool tell_all(struct campaign *campaign)
{
    bool all = campaign->target_count > 0;
    size_t told = 0, gateways = 0;

    for (size_t i = 1; i < campaign->target_count; i++) {
        struct target *target = &campaign->targets[i];
        target->has_thread =
            stacked_thread_start(&target->thread, THREAD_STACK_BYTES, target_main, target) == 0;
    }
    for (size_t i = 0; i < campaign->target_count; i++)
        if (!campaign->targets[i].has_thread)
            (void)target_main(&campaign->targets[i]);
    for (size_t i = 0; i < campaign->target_count; i++) {
        if (campaign->targets[i].has_thread)
            pthread_join(campaign->targets[i].thread, NULL);
        all = all && (campaign->targets[i].acknowledged || campaign->targets[i].gone);
        told += campaign->targets[i].acknowledged;
        if ((size_t)campaign->targets[i].gateways > gateways)
            gateways = (size_t)campaign->targets[i].gateways;
    }
    return all && told > 0 && told >= gateways;
}

static void end_campaign(struct campaign *campaign, bool acknowledged)
{
    struct announcer *announcer = campaign->announcer;

    pthread_mutex_lock(&announcer->mutex);
    campaign->acknowledged = acknowledged;
    campaign->ended = true;
    pthread_cond_broadcast(&announcer->changed);
    pthread_mutex_unlock(&announcer->mutex);
}

static void *announcement_main(void *arg)
{
    struct campaign *campaign = arg;
    struct announcer *announcer = campaign->announcer;
    bool acknowledged = false;

    resolve(campaign);
    pthread_mutex_lock(&announcer->mutex);
    while (announcer->port == 0 && !stop_is_set(&campaign->stop))
        pthread_cond_wait(&announcer->changed, &announcer->mutex);
    pthread_mutex_unlock(&announcer->mutex);
    if (!stop_is_set(&campaign->stop))
        acknowledged = tell_all(campaign);
    end_campaign(campaign, acknowledged);
    return NULL;
}

/* Begins when the announcement is over: no gateway may hear of this pod after the goodbye. Those who heard the announcement and are not
 * among the name's addresses any more have ended, as a rule; who answers all the same is heard. */
static void *goodbye_main(void *arg)
{
    struct campaign *campaign = arg;
    struct announcer *announcer = campaign->announcer;
    const struct campaign *announcement = &announcer->announcement;
    bool resolved;

    pthread_mutex_lock(&announcer->mutex);
    while (!announcer->announcement.ended)
        pthread_cond_wait(&announcer->changed, &announcer->mutex);
    pthread_mutex_unlock(&announcer->mutex);
    resolved = resolve_once(campaign);
    for (size_t i = 0; i < announcement->target_count; i++)
        add_target(campaign, &announcement->targets[i].address, /* named= */ !resolved);
    if (campaign->target_count == 0)
        resolve(campaign);
    end_campaign(campaign, tell_all(campaign));
    return NULL;
}

static void start_campaign(struct campaign *campaign, void *main_function(void *))
{
    campaign->started =
        stacked_thread_start(&campaign->thread, THREAD_STACK_BYTES, main_function, campaign) == 0;
    if (!campaign->started) {
        log_warn("%s: no thread could be started", campaign->path);
        end_campaign(campaign, /* acknowledged= */ false);
    }
}

static int split_gateway(struct announcer *announcer, const char *gateway, struct err *err)
{
    const char *colon = strrchr(gateway, ':');
    struct in_addr address;
    int64_t port;
    CLEANUP_FREE char *name = NULL;

    if (colon == NULL || colon == gateway || !parse_int64(colon + 1, 1, 65535, &port))
        return err_set(err, ERR_INVALID, "\"%.255s\" is not NAME:PORT", gateway);
    name = xstrndup(gateway, (size_t)(colon - gateway));
    announcer->gateway_port = htons((uint16_t)port);
    announcer->host = xstrdup(gateway);
    /* The final dot keeps the resolver from trying its search domains first. */
    if (inet_pton(AF_INET, name, &address) == 1 || str_ends_with(name, "."))
        announcer->lookup_name = steal_ptr(&name);
    else
        announcer->lookup_name = xasprintf("%s.", name);
    return 0;
}

int announcer_start(const struct announcer_settings *settings, struct announcer **ret_announcer,
                    struct err *err)
{
    struct announcer *announcer = xcalloc(1, sizeof(*announcer));

    if (split_gateway(announcer, settings->gateway, err) != 0) {
        free(announcer);
        return -1;
    }
    announcer->namespace = xstrdup(settings->namespace);
    announcer->function = xstrdup(settings->function);
    announcer->pod_name = xstrdup(settings->pod_name);
    announcer->pod_uid = xstrdup(settings->pod_uid);
    pthread_mutex_init(&announcer->mutex, NULL);
    monotonic_cond_init(&announcer->changed);
    announcer->announcement.announcer = announcer->goodbye.announcer = announcer;
    announcer->announcement.path = "/announce";
    announcer->goodbye.path = "/goodbye";
    stop_init(&announcer->announcement.stop);
    stop_init(&announcer->goodbye.stop);
    start_campaign(&announcer->announcement, announcement_main);
    *ret_announcer = announcer;
    return 0;
}

void announcer_announce(struct announcer *announcer, int port)
{
    if (announcer == NULL)
        return;
    pthread_mutex_lock(&announcer->mutex);
    announcer->port = port;
    pthread_cond_broadcast(&announcer->changed);
    pthread_mutex_unlock(&announcer->mutex);
}

static void stop_campaign(struct campaign *campaign)
{
    stop_set(&campaign->stop);
    pthread_mutex_lock(&campaign->announcer->mutex);
    pthread_cond_broadcast(&campaign->announcer->changed);
    pthread_mutex_unlock(&campaign->announcer->mutex);
}

void announcer_goodbye(struct announcer *announcer)
{
    if (announcer == NULL || announcer->goodbye.started)
        return;
    stop_campaign(&announcer->announcement);
    start_campaign(&announcer->goodbye, goodbye_main);
}

bool announcer_acknowledged(struct announcer *announcer)
{
    bool acknowledged;

    if (announcer == NULL)
        return false;
    pthread_mutex_lock(&announcer->mutex);
    acknowledged = announcer->goodbye.acknowledged;
    pthread_mutex_unlock(&announcer->mutex);
    return acknowledged;
}

static bool join_campaign(struct campaign *campaign, int64_t deadline_ms)
{
    struct announcer *announcer = campaign->announcer;
    bool in_time = true;
    bool ended;

    if (!campaign->started)
        return true;
    stop_campaign(campaign);
    pthread_mutex_lock(&announcer->mutex);
    while (!campaign->ended && in_time)
        in_time = monotonic_cond_wait(&announcer->changed, &announcer->mutex, deadline_ms);
    ended = campaign->ended;
    pthread_mutex_unlock(&announcer->mutex);
    if (ended) {
        pthread_join(campaign->thread, NULL);
        campaign->started = false;
    }
    return ended;
}

bool announcer_free(struct announcer *announcer, int64_t deadline_ms)
{
    if (announcer == NULL)
        return true;
    if (!join_campaign(&announcer->announcement, deadline_ms) ||
        !join_campaign(&announcer->goodbye, deadline_ms))
        return false;
    stop_release(&announcer->announcement.stop);
    stop_release(&announcer->goodbye.stop);
    pthread_cond_destroy(&announcer->changed);
    pthread_mutex_destroy(&announcer->mutex);
    free(announcer->host);
    free(announcer->lookup_name);
    free(announcer->namespace);
    free(announcer->function);
    free(announcer->pod_name);
    free(announcer->pod_uid);
    free(announcer);
    return true;
}
