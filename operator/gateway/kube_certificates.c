#include "operator/gateway/kube_certificates.h"

#include <pthread.h>
#include <string.h>
#include <sys/queue.h>
#include <uthash.h>

#include "operator/queue/thread.h"
#include "operator/queue/workqueue.h"
#include "runtime/base/base64.h"
#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

#define WORKERS              2
#define REREAD_MS            60000
#define READS_PER_SECOND_MAX 20 /* of one gateway at rest: above 1,000 Secrets each is read less often */
#define CALL_TIMEOUT_MS      5000
#define QUEUE_MAX_BACKOFF_MS 10000
#define TRIES_AT_START       4 /* then the gateway is ready without that certificate */
#define SECRET_TYPE          "kubernetes.io/tls"
#define EVENT_REASON         "TlsSecretInvalid"

/* A Function that names it. */
struct user {
    LIST_ENTRY(user) link;
    char *name, *uid;
    bool told; /* of the problem of this moment */
};

struct wanted {
    UT_hash_handle hh;
    char *key; /* "namespace/secret" */
    LIST_HEAD(, user) users;
    int tries;
    bool asked;    /* what there is to know at the start is known */
    char *problem; /* "reason: message", as last logged; NULL: none */
};

struct kube_certificates {
    struct kube_client *client;
    struct gateway *gateway;
    struct event_recorder *recorder;
    struct workqueue *queue;
    struct metric_family *problems;
    int64_t reread_ms;
    pthread_t workers[WORKERS];
    bool started;
    pthread_mutex_t mu;
    struct wanted *wanted; /* guarded by mu */
};

struct kube_certificates *kube_certificates_new(struct kube_client *client, struct gateway *gateway,
                                                struct event_recorder *recorder, struct metrics *metrics,
                                                int64_t reread_ms)
{
    static const char *const labels[] = {"namespace", "secret", "reason", NULL};
    struct kube_certificates *certificates = xcalloc(1, sizeof(*certificates));
    certificates->client = kube_client_new_derived(client, CALL_TIMEOUT_MS);
    certificates->gateway = gateway;
    certificates->recorder = recorder;
    certificates->queue = workqueue_new(&clock_system, QUEUE_MAX_BACKOFF_MS);
    certificates->problems = metrics_gauge(
        metrics, "cicada_gateway_tls_secret_problem",
        "1 while a Secret that a Function names for TLS can't be used; what was read of it before is.",
        labels);
    certificates->reread_ms = reread_ms > 0 ? reread_ms : REREAD_MS;
    pthread_mutex_init(&certificates->mu, NULL);
    return certificates;
}

/* ---- who is wanted; mu held ---- */

static struct wanted *find(struct kube_certificates *certificates, const char *namespace, const char *secret)
{
    CLEANUP_FREE char *key = xasprintf("%s/%s", namespace, secret);
    struct wanted *wanted;
    HASH_FIND_STR(certificates->wanted, key, wanted);
    return wanted;
}

/* Whoever made the Function, and can't read the gateway's log, sees it there. */
static void tell_users(struct kube_certificates *certificates, const char *namespace, const char *secret,
                       struct wanted *wanted)
{
    CLEANUP_FREE char *message = xasprintf("Secret %s: %s", secret, wanted->problem);
    struct user *user;
    LIST_FOREACH(user, &wanted->users, link)
    {
        if (!user->told) {
            /* If there is no room, the next look at the Secret tries again. */
            user->told =
                event_recorder_emit(certificates->recorder, FUNCTION_API_VERSION, "Function", namespace,
                                    user->name, user->uid, "Warning", EVENT_REASON, message);
        }
    }
}

static void change_problem(struct kube_certificates *certificates, const char *namespace, const char *secret,
                           struct wanted *wanted, const char *reason, const char *problem)
{
    metric_family_remove(certificates->problems, (const char *[]){namespace, secret}, 2);
    if (problem) {
        metric_set(metric_family_get(certificates->problems, (const char *[]){namespace, secret, reason}), 1);
        log_warn("Secret %s/%s: %s", namespace, secret, problem);
    } else if (wanted->problem) {
        log_info("Secret %s/%s: its certificate can be used again", namespace, secret);
    }
    free(wanted->problem);
    wanted->problem = xstrdup_or_null(problem);
    struct user *user;
    LIST_FOREACH(user, &wanted->users, link)
    {
        user->told = false;
    }
}

static void set_problem(struct kube_certificates *certificates, const char *namespace, const char *secret,
                        struct wanted *wanted, const char *reason, const char *message)
{
    CLEANUP_FREE char *problem = message ? xasprintf("%s: %s", reason, message) : NULL;
    if (!wanted->asked || !str_equal_or_both_null(wanted->problem, problem)) {
        change_problem(certificates, namespace, secret, wanted, reason, problem);
    }
    if (problem) {
        tell_users(certificates, namespace, secret, wanted);
    }
}

static struct user *find_user(struct wanted *wanted, const char *name)
{
    struct user *user;
    LIST_FOREACH(user, &wanted->users, link)
    {
        if (strcmp(user->name, name) == 0) {
            break;
        }
    }
    return user;
}

static void free_user(struct user *user)
{
    free(user->name);
    free(user->uid);
    free(user);
}

static void want(struct kube_certificates *certificates, const struct cached_object *function,
                 const char *secret)
{
    struct wanted *wanted = find(certificates, function->namespace, secret);
    if (!wanted) {
        wanted = xcalloc(1, sizeof(*wanted));
        wanted->key = xasprintf("%s/%s", function->namespace, secret);
        HASH_ADD_KEYPTR(hh, certificates->wanted, wanted->key, strlen(wanted->key), wanted);
    }
    struct user *before = find_user(wanted, function->name), *user = xcalloc(1, sizeof(*user));
    user->name = xstrdup(function->name);
    user->uid = xstrdup(function->uid);
    user->told = before && before->told && strcmp(before->uid, user->uid) == 0;
    if (before) {
        LIST_REMOVE(before, link);
        free_user(before);
    }
    LIST_INSERT_HEAD(&wanted->users, user, link);
}

static void free_wanted(struct wanted *wanted)
{
    struct user *user = LIST_FIRST(&wanted->users);
    while (user) {
        struct user *next = LIST_NEXT(user, link);
        free_user(user);
        user = next;
    }
    free(wanted->key);
    free(wanted->problem);
    free(wanted);
}

static void forget(struct kube_certificates *certificates, const struct cached_object *function,
                   const char *secret)
{
    struct wanted *wanted = find(certificates, function->namespace, secret);
    struct user *user = wanted ? find_user(wanted, function->name) : NULL;
    if (!user) {
        return;
    }
    LIST_REMOVE(user, link);
    free_user(user);
    if (LIST_EMPTY(&wanted->users)) {
        HASH_DELETE(hh, certificates->wanted, wanted);
        free_wanted(wanted);
        metric_family_remove(certificates->problems, (const char *[]){function->namespace, secret}, 2);
        gateway_certificate_remove(certificates->gateway, function->namespace, secret);
    }
}

void kube_certificates_named(struct kube_certificates *certificates, const struct cached_object *function,
                             const char *before, const char *now)
{
    pthread_mutex_lock(&certificates->mu);
    if (before && (!now || strcmp(before, now) != 0)) {
        forget(certificates, function, before);
    }
    if (now) {
        want(certificates, function, now);
    }
    pthread_mutex_unlock(&certificates->mu);
    if (now) {
        workqueue_add(certificates->queue, function->namespace, now);
    }
}

bool kube_certificates_settled(struct kube_certificates *certificates)
{
    bool settled = true;
    pthread_mutex_lock(&certificates->mu);
    for (struct wanted *wanted = certificates->wanted; wanted; wanted = wanted->hh.next) {
        settled &= wanted->asked;
    }
    pthread_mutex_unlock(&certificates->mu);
    return settled;
}

/* ---- reading ---- */

static int read_part(const cJSON *secret, const char *name, char **ret_text, struct err *err)
{
    const char *encoded = json_string(json_object(secret, "data"), name);
    if (!encoded) {
        return err_set(err, ERR_NOT_FOUND, "it has no %s", name);
    }
    return base64_decode_text(encoded, ret_text, err) < 0 ? err_wrap(err, "%s", name) : 0;
}

/* mu is not held: the call may take its time-out. */
static int read_secret(struct kube_certificates *certificates, const struct object_key *key, char **ret_chain,
                       char **ret_key, struct err *err)
{
    CLEANUP_JSON cJSON *secret = NULL;
    if (kube_get(certificates->client, &kube_secrets, key->namespace, key->name, &secret, err) < 0) {
        return -1;
    }
    const char *type = json_string(secret, "type");
    if (!type || strcmp(type, SECRET_TYPE) != 0) {
        return err_set(err, ERR_INVALID, "its type is not " SECRET_TYPE);
    }
    return read_part(secret, "tls.crt", ret_chain, err) < 0 || read_part(secret, "tls.key", ret_key, err) < 0
               ? -1
               : 0;
}

static const char *reason_of(enum err_code code)
{
    return code == ERR_NOT_FOUND   ? "SecretMissing"
           : code == ERR_FORBIDDEN ? "SecretForbidden"
                                   : "CertificateInvalid";
}

/* What the Secret itself is to blame for, as against an API server that is away. */
static bool is_final(enum err_code code)
{
    return code == ERR_NOT_FOUND || code == ERR_FORBIDDEN || code == ERR_INVALID || code == ERR_TOO_LARGE;
}

static int64_t next_read_ms(struct kube_certificates *certificates)
{
    int64_t least_ms = (int64_t)HASH_COUNT(certificates->wanted) * 1000 / READS_PER_SECOND_MAX;
    int64_t interval_ms = certificates->reread_ms > least_ms ? certificates->reread_ms : least_ms;
    /* Apart from each other, and from those of the other gateways. */
    return interval_ms - (int64_t)(random_u64() % (uint64_t)(interval_ms / 4 + 1));
}

static void refresh(struct kube_certificates *certificates, const struct object_key *key)
{
    struct err err = ERR_INIT;
    CLEANUP_FREE char *chain = NULL, *private_key = NULL;
    int result = read_secret(certificates, key, &chain, &private_key, &err);
    bool changed = false, again = false;
    int64_t delay_ms = 0;
    pthread_mutex_lock(&certificates->mu);
    struct wanted *wanted = find(certificates, key->namespace, key->name);
    if (wanted) { /* still */
        if (result == 0) {
            result = gateway_certificate_set(certificates->gateway, key->namespace, key->name, chain,
                                             private_key, &changed, &err);
        }
        again = result < 0 && !is_final(err.code);
        if (!again) {
            set_problem(certificates, key->namespace, key->name, wanted, reason_of(err.code),
                        result < 0 ? err.msg : NULL);
        }
        wanted->asked |= !again || ++wanted->tries >= TRIES_AT_START;
        delay_ms = next_read_ms(certificates);
    }
    pthread_mutex_unlock(&certificates->mu);
    if (private_key) {
        explicit_bzero(private_key, strlen(private_key));
    }
    if (changed) {
        log_info("Secret %s/%s: a new certificate is in use", key->namespace, key->name);
    }
    if (again) {
        log_debug("Secret %s/%s: %s", key->namespace, key->name, err.msg);
        workqueue_add_backoff(certificates->queue, key->namespace, key->name);
    } else if (wanted) {
        workqueue_forget(certificates->queue, key->namespace, key->name);
        workqueue_add_after(certificates->queue, key->namespace, key->name, delay_ms);
    }
}

static void *run_worker(void *arg)
{
    struct kube_certificates *certificates = arg;
    struct object_key key;
    while (workqueue_get(certificates->queue, &key)) {
        refresh(certificates, &key);
        workqueue_done(certificates->queue, &key);
        object_key_release(&key);
    }
    return NULL;
}

/* ---- life ---- */

void kube_certificates_start(struct kube_certificates *certificates)
{
    for (int i = 0; i < WORKERS; i++) {
        certificates->workers[i] = thread_start("certificates", run_worker, certificates);
    }
    certificates->started = true;
}

void kube_certificates_stop(struct kube_certificates *certificates)
{
    workqueue_shutdown(certificates->queue);
    for (int i = 0; certificates->started && i < WORKERS; i++) {
        pthread_join(certificates->workers[i], NULL);
    }
    certificates->started = false;
}

void kube_certificates_free(struct kube_certificates *certificates)
{
    if (!certificates) {
        return;
    }
    struct wanted *wanted = certificates->wanted;
    HASH_CLEAR(hh, certificates->wanted); /* leaves the list that runs through the entries */
    while (wanted) {
        struct wanted *next = wanted->hh.next;
        free_wanted(wanted);
        wanted = next;
    }
    workqueue_free(certificates->queue);
    kube_client_free(certificates->client);
    pthread_mutex_destroy(&certificates->mu);
    free(certificates);
}
