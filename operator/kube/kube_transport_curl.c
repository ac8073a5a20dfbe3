#include "operator/kube/kube_transport_curl.h"

#include <pthread.h>

#include "operator/kube/kube_client_config.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

#define TOKEN_MAX_AGE_MS   60000
#define TOKEN_MAX_BYTES    (64u << 10)
#define CONNECT_TIMEOUT_MS 10000

struct curl_transport {
    struct kube_transport base;
    struct http_client *http;
    const struct clock *clock;
    char *token_file; /* NULL: the token is fixed, or there is none */
    pthread_mutex_t mu;
    char *token;           /* guarded by mu; NULL: none */
    int64_t token_read_ms; /* guarded by mu; monotonic, of the last attempt; -1: never */
};

static void free_secret(char *text)
{
    if (text)
        explicit_bzero(text, strlen(text));
    free(text);
}

static void free_secret_p(char **text)
{
    free_secret(*text);
}
#define CLEANUP_SECRET CLEANUP(free_secret_p)

static int token_read(const char *path, char **ret_token, struct err *err)
{
    CLEANUP_SECRET char *text = NULL;
    size_t len;
    if (file_read(path, TOKEN_MAX_BYTES, &text, &len, err) != 0)
        return err_wrap(err, "token");
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r' || text[len - 1] == ' '))
        text[--len] = '\0';
    for (size_t i = 0; i < len; i++) {
        if (text[i] <= ' ' || text[i] >= 0x7f)
            return err_set(err, ERR_INVALID, "token: %s holds a character that no token has", path);
    }
    if (len == 0)
        return err_set(err, ERR_INVALID, "token: %s is empty", path);
    *ret_token = steal_ptr(&text);
    return 0;
}

/* Whether this caller shall read the file; the others go on with what they have. */
static bool token_claim_read(struct curl_transport *transport, bool force)
{
    int64_t now_ms = transport->clock->monotonic_ms(transport->clock);
    pthread_mutex_lock(&transport->mu);
    bool is_old = transport->token_read_ms < 0 || now_ms - transport->token_read_ms >= TOKEN_MAX_AGE_MS;
    bool claimed = transport->token_file && (force || is_old || !transport->token);
    if (claimed)
        transport->token_read_ms = now_ms;
    pthread_mutex_unlock(&transport->mu);
    return claimed;
}

/* A copy of the token for one request, NULL if there is none to send. */
static int token_get(struct curl_transport *transport, bool force_read, char **ret_token, struct err *err)
{
    CLEANUP_SECRET char *fresh = NULL;
    struct err read_err = ERR_INIT;
    bool failed =
        token_claim_read(transport, force_read) && token_read(transport->token_file, &fresh, &read_err) != 0;
    pthread_mutex_lock(&transport->mu);
    if (fresh) {
        char *old = transport->token;
        transport->token = steal_ptr(&fresh);
        fresh = old;
    }
    char *token = xstrdup_or_null(transport->token);
    pthread_mutex_unlock(&transport->mu);
    if (failed && !token) {
        *err = read_err;
        return -1;
    }
    *ret_token = token;
    return 0;
}

struct call {
    const struct http_client_request *request;
    http_client_bytes_fn *on_bytes; /* NULL: not streamed */
    void *arg;
};

static int call_once(struct curl_transport *transport, const struct call *call, const char *token,
                     struct http_client_response *ret, struct err *err)
{
    struct http_client_request request = *call->request;
    request.bearer_token = token;
    if (call->on_bytes)
        return http_client_stream(transport->http, &request, call->on_bytes, call->arg, ret, err);
    return http_client_request(transport->http, &request, ret, err);
}

static int call_with_token(struct curl_transport *transport, const struct call *call,
                           struct http_client_response *ret, struct err *err)
{
    CLEANUP_SECRET char *token = NULL;
    if (token_get(transport, /* force_read= */ false, &token, err) != 0 ||
        call_once(transport, call, token, ret, err) != 0)
        return -1;
    if (ret->status != 401 || !transport->token_file)
        return 0;
    /* The token may have rotated within the minute; the same one again would get the same answer. */
    CLEANUP_SECRET char *second = NULL;
    struct err ignored = ERR_INIT;
    if (token_get(transport, /* force_read= */ true, &second, &ignored) != 0 ||
        str_equal_or_both_null(token, second))
        return 0;
    http_client_response_release(ret);
    return call_once(transport, call, second, ret, err);
}

static int curl_transport_request(struct kube_transport *self, const struct http_client_request *request,
                                  struct http_client_response *ret, struct err *err)
{
    struct call call = {.request = request};
    return call_with_token(container_of(self, struct curl_transport, base), &call, ret, err);
}

static int curl_transport_stream(struct kube_transport *self, const struct http_client_request *request,
                                 http_client_bytes_fn *on_bytes, void *arg, struct http_client_response *ret,
                                 struct err *err)
{
    struct call call = {.request = request, .on_bytes = on_bytes, .arg = arg};
    return call_with_token(container_of(self, struct curl_transport, base), &call, ret, err);
}

static void curl_transport_free(struct kube_transport *self)
{
    struct curl_transport *transport = container_of(self, struct curl_transport, base);
    http_client_free(transport->http);
    pthread_mutex_destroy(&transport->mu);
    free(transport->token_file);
    free_secret(transport->token);
    free(transport);
}

struct kube_transport *kube_transport_curl_new(const struct kube_client_config *config,
                                               const struct clock *clock, const struct stop *stop)
{
    static const struct kube_transport_ops ops = {
        .request = curl_transport_request,
        .stream = curl_transport_stream,
        .free = curl_transport_free,
    };
    struct http_client_settings settings = {
        .base_url = config->server,
        .ca_file = config->ca_file,
        .ca_pem = config->ca_pem,
        .client_cert_pem = config->client_cert_pem,
        .client_key_pem = config->client_key_pem,
        .connect_timeout_ms = CONNECT_TIMEOUT_MS,
        .stop = stop,
    };
    struct curl_transport *transport = xcalloc(1, sizeof(*transport));
    transport->base.ops = &ops;
    transport->clock = clock;
    transport->token = xstrdup_or_null(config->token);
    transport->token_file = xstrdup_or_null(config->token_file);
    transport->token_read_ms = -1;
    pthread_mutex_init(&transport->mu, NULL);
    transport->http = http_client_new(&settings);
    return &transport->base;
}
