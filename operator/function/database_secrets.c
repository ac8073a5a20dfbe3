#include "operator/function/database_secrets.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "runtime/base/base64.h"
#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

#define CALL_TIMEOUT_MS 5000
#define FAILED_AGE_MS   5000 /* what was not there, or could not be asked for, is looked for again after that */
#define UNUSED_MS       600000
#define SWEEP_MS        60000

struct entry {
    UT_hash_handle hh;
    char *url;         /* NULL: none was ever read, or it is gone */
    struct err err;    /* of the last read; code 0: it went well */
    int64_t tried_ms;  /* monotonic */
    int64_t wanted_ms; /* last */
    char name[];       /* "namespace/secret/key" */
};

struct database_secrets {
    struct kube_client *client; /* derived */
    const struct clock *clock;
    pthread_mutex_t mu;
    struct entry *entries; /* guarded by mu, with all that is in them */
    int64_t swept_ms;
};

struct database_secrets *database_secrets_new(struct kube_client *client, const struct clock *clock)
{
    struct database_secrets *secrets = xcalloc(1, sizeof *secrets);
    secrets->client = kube_client_new_derived(client, CALL_TIMEOUT_MS);
    secrets->clock = clock;
    pthread_mutex_init(&secrets->mu, NULL);
    return secrets;
}

static void drop(struct database_secrets *secrets, struct entry *entry)
{
    /* What is freed is in the table no more. NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
    HASH_DEL(secrets->entries, entry);
    free(entry->url);
    free(entry);
}

void database_secrets_free(struct database_secrets *secrets)
{
    if (!secrets) {
        return;
    }
    while (secrets->entries) {
        drop(secrets, secrets->entries);
    }
    pthread_mutex_destroy(&secrets->mu);
    kube_client_free(secrets->client);
    free(secrets);
}

/* ---- what is kept; mu held ---- */

static void sweep(struct database_secrets *secrets, int64_t now_ms)
{
    struct entry *entry, *next;
    if (now_ms - secrets->swept_ms < SWEEP_MS) {
        return;
    }
    secrets->swept_ms = now_ms;
    HASH_ITER(hh, secrets->entries, entry, next)
    {
        if (now_ms - entry->wanted_ms > UNUSED_MS) {
            drop(secrets, entry);
        }
    }
}

static struct entry *find(struct database_secrets *secrets, const char *name)
{
    struct entry *entry;
    HASH_FIND_STR(secrets->entries, name, entry);
    return entry;
}

static bool is_fresh(const struct entry *entry, int64_t max_age_ms, int64_t now_ms)
{
    if (entry->err.code && max_age_ms > FAILED_AGE_MS) {
        max_age_ms = FAILED_AGE_MS;
    }
    return now_ms - entry->tried_ms <= max_age_ms;
}

static int answer(const struct entry *entry, char **ret_url, struct err *err)
{
    if (!entry->url) {
        *err = entry->err;
        return -1;
    }
    *ret_url = xstrdup(entry->url);
    return 0;
}

/* What the Secret itself is to blame for, as against an API server that is away. */
static bool is_final(enum err_code code)
{
    return code == ERR_NOT_FOUND || code == ERR_FORBIDDEN || code == ERR_INVALID;
}

/* Takes *url, NULL: err says why there is none. */
static struct entry *note(struct database_secrets *secrets, const char *name, char **url,
                          const struct err *err, int64_t now_ms)
{
    struct entry *entry = find(secrets, name);
    if (!entry) {
        entry = xcalloc(1, sizeof *entry + strlen(name) + 1);
        memcpy(entry->name, name, strlen(name) + 1);
        HASH_ADD_STR(secrets->entries, name, entry);
    }
    entry->tried_ms = entry->wanted_ms = now_ms;
    entry->err = *err;
    if (*url || is_final(err->code)) {
        free(entry->url);
        entry->url = steal_ptr(url);
    }
    return entry;
}

/* ---- reading ---- */

/* mu is not held: the call may take its time-out. */
static int read_secret(struct database_secrets *secrets, const char *namespace, const char *secret,
                       const char *key, char **ret_url, struct err *err)
{
    CLEANUP_JSON cJSON *tree = NULL;
    if (kube_get(secrets->client, &kube_secrets, namespace, secret, &tree, err)) {
        return err->code == ERR_NOT_FOUND
                   ? err_set(err, ERR_NOT_FOUND, "Secret %s does not exist in namespace %s", secret,
                             namespace)
                   : err_wrap(err, "Secret %s", secret);
    }
    const char *encoded = json_string(json_object(tree, "data"), key);
    if (!encoded) {
        return err_set(err, ERR_NOT_FOUND, "Secret %s has no key %s", secret, key);
    }
    CLEANUP_FREE char *url = NULL;
    struct err cause = ERR_INIT;
    if (base64_decode_text(encoded, &url, &cause) || strlen(url) > DATABASE_URL_MAX_BYTES) {
        return err_set(err, ERR_INVALID, "key %s of Secret %s is no text of at most %d bytes", key, secret,
                       DATABASE_URL_MAX_BYTES);
    }
    *ret_url = steal_ptr(&url);
    return 0;
}

int database_secrets_get(struct database_secrets *secrets, const char *namespace, const char *secret,
                         const char *key, int64_t max_age_ms, char **ret_url, struct err *err)
{
    CLEANUP_FREE char *name = xasprintf("%s/%s/%s", namespace, secret, key), *url = NULL;
    pthread_mutex_lock(&secrets->mu);
    int64_t now_ms = secrets->clock->monotonic_ms(secrets->clock);
    sweep(secrets, now_ms);
    struct entry *entry = find(secrets, name);
    if (entry) {
        entry->wanted_ms = now_ms;
    }
    bool fresh = entry && is_fresh(entry, max_age_ms, now_ms);
    int result = fresh ? answer(entry, ret_url, err) : 0;
    pthread_mutex_unlock(&secrets->mu);
    if (fresh) {
        return result;
    }
    struct err read_err = ERR_INIT;
    (void)read_secret(secrets, namespace, secret, key, &url, &read_err);
    pthread_mutex_lock(&secrets->mu);
    result = answer(note(secrets, name, &url, &read_err, now_ms), ret_url, err);
    pthread_mutex_unlock(&secrets->mu);
    return result;
}
