#include "runtime/http/http_client.h"

#include <curl/curl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/base/version.h"

/* Idle handles beyond this are freed: each may hold a connection. */
#define IDLE_HANDLES_MAX     16
#define RECEIVE_BUFFER_BYTES (64L << 10)
/* A peer that vanished without a word: probed after 10 s of quiet, given up 20 s after unacknowledged bytes. */
#define KEEPALIVE_IDLE_SECONDS     10L
#define KEEPALIVE_INTERVAL_SECONDS 5L
#define TCP_USER_TIMEOUT_MS        20000u
/* The default, a day, would not see a rotated CA file. */
#define CA_CACHE_SECONDS  60L
#define RETRY_AFTER_MAX_S 86400
#define POLL_MAX_MS       60000
#define URL_MAX_BYTES     65536
#define HEADER_MAX_BYTES  65536

/* An easy handle alone in a multi handle: only curl_multi_poll() can wait for a struct stop as well. */
struct handle {
    CURL *easy;
    CURLM *multi;
    struct handle *next;
    char error[CURL_ERROR_SIZE];
};

struct http_client {
    char *base_url, *ca_file, *ca_pem, *client_cert_pem, *client_key_pem;
    int64_t connect_timeout_ms;
    const struct stop *stop;
    pthread_mutex_t mu;  /* a leaf */
    struct handle *idle; /* guarded by mu; the last used first, its connection is the freshest */
    int idle_count;      /* guarded by mu */
};

/* One call. */
struct call {
    const struct http_client_request *request;
    struct handle *handle;
    http_client_bytes_fn *on_bytes; /* NULL: everything is collected */
    void *arg;
    struct http_client_response *response;
    struct err *err;
    bool failed;          /* err is filled by a callback */
    bool head_complete;   /* the empty line after the headers came */
    int64_t last_byte_ms; /* streams: when the peer was last heard */
};

void http_client_global_init(void)
{
    signal(SIGPIPE, SIG_IGN);
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        abort(); /* out of memory, or a broken TLS library */
    }
}

void http_client_response_release(struct http_client_response *response)
{
    strbuf_release(&response->body);
}

struct http_client *http_client_new(const struct http_client_settings *settings)
{
    struct http_client *client = xcalloc(1, sizeof(*client));
    client->base_url = xstrdup(settings->base_url);
    client->ca_file = xstrdup_or_null(settings->ca_file);
    client->ca_pem = xstrdup_or_null(settings->ca_pem);
    client->client_cert_pem = xstrdup_or_null(settings->client_cert_pem);
    client->client_key_pem = xstrdup_or_null(settings->client_key_pem);
    client->connect_timeout_ms = settings->connect_timeout_ms;
    client->stop = settings->stop;
    pthread_mutex_init(&client->mu, NULL);
    return client;
}

static void handle_free(struct handle *handle)
{
    curl_easy_cleanup(handle->easy);
    curl_multi_cleanup(handle->multi);
    free(handle);
}

static void free_secret(char *text)
{
    if (text) {
        explicit_bzero(text, strlen(text));
        free(text);
    }
}

void http_client_free(struct http_client *client)
{
    if (!client) {
        return;
    }
    for (struct handle *handle = client->idle, *next; handle; handle = next) {
        next = handle->next;
        handle_free(handle);
    }
    pthread_mutex_destroy(&client->mu);
    free(client->base_url);
    free(client->ca_file);
    free(client->ca_pem);
    free(client->client_cert_pem);
    free_secret(client->client_key_pem);
    free(client);
}

static struct handle *take_handle(struct http_client *client)
{
    pthread_mutex_lock(&client->mu);
    struct handle *handle = client->idle;
    if (handle) {
        client->idle = handle->next;
        client->idle_count--;
    }
    pthread_mutex_unlock(&client->mu);
    if (!handle) {
        handle = xcalloc(1, sizeof(*handle));
        handle->easy = curl_easy_init();
        handle->multi = curl_multi_init();
        if (!handle->easy || !handle->multi) {
            abort(); /* out of memory */
        }
        curl_multi_setopt(handle->multi, CURLMOPT_MAXCONNECTS, 2L);
    }
    return handle;
}

static void give_handle(struct http_client *client, struct handle *handle)
{
    pthread_mutex_lock(&client->mu);
    bool keep = client->idle_count < IDLE_HANDLES_MAX;
    if (keep) {
        handle->next = client->idle;
        client->idle = handle;
        client->idle_count++;
    }
    pthread_mutex_unlock(&client->mu);
    if (!keep) {
        handle_free(handle);
    }
}

/* ---- callbacks of libcurl ---- */

static int on_socket(void *arg, curl_socket_t fd, curlsocktype purpose)
{
    (void)arg, (void)purpose;
    unsigned timeout_ms = TCP_USER_TIMEOUT_MS;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms));
    return CURL_SOCKOPT_OK;
}

static int64_t parse_retry_after(const char *value, size_t len)
{
    while (len > 0 && (*value == ' ' || *value == '\t')) {
        value++;
        len--;
    }
    size_t digits = 0;
    while (digits < len && value[digits] >= '0' && value[digits] <= '9') {
        digits++;
    }
    int64_t seconds;
    return parse_int64_n(value, digits, 0, RETRY_AFTER_MAX_S, &seconds) ? seconds * 1000 : 0;
}

static size_t on_header(char *line, size_t size, size_t count, void *arg)
{
    static const char retry_after[] = "retry-after:";
    struct call *call = arg;
    size_t len = size * count;
    call->last_byte_ms = clock_monotonic_ms();
    if (len >= sizeof(retry_after) - 1 && ascii_equal_nocase(line, sizeof(retry_after) - 1, retry_after)) {
        call->response->retry_after_ms =
            parse_retry_after(line + sizeof(retry_after) - 1, len - (sizeof(retry_after) - 1));
    } else if (len >= 5 && memcmp(line, "HTTP/", 5) == 0) {
        call->response->retry_after_ms = 0; /* an interim answer came before */
        call->head_complete = false;
    } else if (len <= 2 && (line[0] == '\r' || line[0] == '\n')) {
        call->head_complete = true;
    }
    return len;
}

static int status_of(const struct call *call)
{
    long status = 0;
    curl_easy_getinfo(call->handle->easy, CURLINFO_RESPONSE_CODE, &status);
    return (int)status;
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
    struct call *call = arg;
    size_t len = size * count;
    if (call->on_bytes && status_of(call) / 100 == 2) {
        call->failed = call->on_bytes(call->arg, data, len, call->err) < 0;
    } else if (strbuf_append(&call->response->body, data, len) < 0) {
        call->failed = true;
        err_set(call->err, ERR_TOO_LARGE, "the answer is larger than %zu bytes",
                call->request->max_response_bytes);
    }
    call->last_byte_ms = clock_monotonic_ms();
    return call->failed ? CURL_WRITEFUNC_ERROR : len;
}

/* ---- options ---- */

static void set_blob(CURL *easy, CURLoption option, char *pem)
{
    if (pem) {
        struct curl_blob blob = {.data = pem, .len = strlen(pem), .flags = CURL_BLOB_NOCOPY};
        curl_easy_setopt(easy, option, &blob);
    }
}

static void set_connection_options(const struct http_client *client, CURL *easy)
{
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, RECEIVE_BUFFER_BYTES);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, KEEPALIVE_IDLE_SECONDS);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SECONDS);
    curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, on_socket);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)client->connect_timeout_ms);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, CA_CACHE_SECONDS);
    if (client->ca_file) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, client->ca_file);
    }
    /* As blobs they are compared by content: after a rotation no old connection is reused. */
    set_blob(easy, CURLOPT_CAINFO_BLOB, client->ca_pem);
    set_blob(easy, CURLOPT_SSLCERT_BLOB, client->client_cert_pem);
    set_blob(easy, CURLOPT_SSLKEY_BLOB, client->client_key_pem);
}

static void set_method(CURL *easy, const struct http_client_request *request)
{
    if (strcmp(request->method, "HEAD") == 0) {
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
        return;
    }
    if (request->body || strcmp(request->method, "POST") == 0 || strcmp(request->method, "PUT") == 0 ||
        strcmp(request->method, "PATCH") == 0) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                         (curl_off_t)(request->body ? request->body_len : 0));
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request->body ? request->body : "");
    }
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
}

/* No line break, no space where a value has none: nothing of a request may become another header or request. */
static bool is_header_text(const char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7F) {
            return false;
        }
    }
    return true;
}

static int check_request(const struct http_client_request *request, struct err *err)
{
    const char *path = request->path_and_query;
    if (path[0] != '/' || !is_header_text(path) || strchr(path, ' ') || strlen(path) > URL_MAX_BYTES) {
        return err_set(err, ERR_INVALID, "malformed request path \"%.200s\"", path);
    }
    if ((request->bearer_token && !is_header_text(request->bearer_token)) ||
        (request->content_type && !is_header_text(request->content_type)) ||
        (request->accept && !is_header_text(request->accept)) || !is_header_text(request->method)) {
        return err_set(err, ERR_INVALID, "a request header has a control character");
    }
    return 0;
}

static int append_header(struct curl_slist **list, const char *name, const char *value, struct err *err)
{
    CLEANUP_STRBUF struct strbuf line;
    strbuf_init(&line, HEADER_MAX_BYTES);
    /* libcurl takes "Name:" as "do not send this one". */
    strbuf_appendf(&line, "%s:%s%s", name, value ? " " : "", value ? value : "");
    if (strbuf_failed(&line)) {
        return err_set(err, ERR_TOO_LARGE, "request header %s is larger than %d bytes", name,
                       HEADER_MAX_BYTES);
    }
    struct curl_slist *longer = curl_slist_append(*list, line.buf);
    if (!longer) {
        abort(); /* out of memory */
    }
    *list = longer;
    return 0;
}

static int build_headers(const struct http_client_request *request, struct curl_slist **list, struct err *err)
{
    if (append_header(list, "Accept", request->accept ? request->accept : "application/json", err) < 0 ||
        append_header(list, "Expect", NULL, err) < 0 ||
        append_header(list, "Content-Type", request->content_type, err) < 0) {
        return -1;
    }
    if (request->bearer_token) {
        CLEANUP_FREE char *value = xasprintf("Bearer %s", request->bearer_token);
        return append_header(list, "Authorization", value, err);
    }
    return 0;
}

/* ---- one call ---- */

static int fail_with(const struct call *call, CURLcode code)
{
    enum err_code kind;
    switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
        kind = ERR_TIMEOUT;
        break;
    case CURLE_URL_MALFORMAT:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
        kind = ERR_INVALID;
        break;
    case CURLE_FAILED_INIT:
    case CURLE_BAD_FUNCTION_ARGUMENT:
        kind = ERR_INTERNAL;
        break;
    case CURLE_OUT_OF_MEMORY:
        abort();
    default: /* no connection, no TLS, or it broke: another attempt may succeed */
        kind = ERR_UNAVAILABLE;
        break;
    }
    const char *text = call->handle->error[0] ? call->handle->error : curl_easy_strerror(code);
    return err_set(call->err, kind, "%s", text);
}

/* How long to wait for the sockets; 0: the peer of a stream has been silent for too long. */
static int wait_ms(const struct call *call)
{
    if (!call->on_bytes || call->request->timeout_ms <= 0) {
        return POLL_MAX_MS; /* libcurl knows the deadline */
    }
    int left_ms = deadline_left_ms(call->last_byte_ms + call->request->timeout_ms);
    return left_ms < POLL_MAX_MS ? left_ms : POLL_MAX_MS;
}

/* Runs the transfer in its multi handle until it ends. */
static int run(const struct http_client *client, struct call *call)
{
    CURLM *multi = call->handle->multi;
    struct curl_waitfd stop_entry = {.fd = client->stop ? stop_fd(client->stop) : -1,
                                     .events = CURL_WAIT_POLLIN};
    for (;;) {
        int running = 0;
        CURLMcode code = curl_multi_perform(multi, &running);
        if (code == CURLM_OK && running > 0) {
            int timeout_ms = wait_ms(call);
            if (timeout_ms == 0) {
                return err_set(call->err, ERR_TIMEOUT, "no byte for %lld ms",
                               (long long)call->request->timeout_ms);
            }
            code = curl_multi_poll(multi, client->stop ? &stop_entry : NULL, client->stop ? 1 : 0, timeout_ms,
                                   NULL);
        }
        if (code != CURLM_OK) {
            return err_set(call->err, ERR_INTERNAL, "libcurl: %s", curl_multi_strerror(code));
        }
        if (running == 0) {
            break;
        }
        if (client->stop && stop_is_set(client->stop)) {
            return err_set(call->err, ERR_CANCELLED, "cancelled");
        }
    }
    int left;
    const CURLMsg *message = curl_multi_info_read(multi, &left);
    if (!message || message->msg != CURLMSG_DONE) {
        return err_set(call->err, ERR_INTERNAL, "libcurl: no result");
    }
    if (call->failed) {
        return -1;
    }
    if (message->data.result != CURLE_OK) {
        return fail_with(call, message->data.result);
    }
    /* libcurl takes a connection that closes within the headers for a whole answer. */
    return call->head_complete ? 0
                               : err_set(call->err, ERR_UNAVAILABLE, "the answer ended within its headers");
}

static int run_with_options(struct http_client *client, struct call *call, struct curl_slist *headers)
{
    CURL *easy = call->handle->easy;
    CLEANUP_FREE char *url = xasprintf("%s%s", client->base_url, call->request->path_and_query);
    curl_easy_reset(easy); /* connections stay */
    call->handle->error[0] = '\0';
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->handle->error);
    set_connection_options(client, easy);
    set_method(easy, call->request);
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "cicada/" CICADA_VERSION);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, call);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
    if (!call->on_bytes) {
        curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)call->request->timeout_ms);
    }
    call->last_byte_ms = clock_monotonic_ms();
    curl_multi_add_handle(call->handle->multi, easy);
    int result = run(client, call);
    call->response->status = status_of(call);
    curl_multi_remove_handle(call->handle->multi,
                             easy); /* an unfinished transfer loses its connection here */
    return result;
}

static int perform(struct http_client *client, struct call *call)
{
    struct http_client_response *response = call->response;
    *response = (struct http_client_response){0};
    strbuf_init(&response->body, call->request->max_response_bytes);
    if (client->stop && stop_is_set(client->stop)) {
        return err_set(call->err, ERR_CANCELLED, "cancelled");
    }
    struct curl_slist *headers = NULL;
    int result = -1;
    if (check_request(call->request, call->err) == 0 &&
        build_headers(call->request, &headers, call->err) == 0) {
        call->handle = take_handle(client);
        result = run_with_options(client, call, headers);
        give_handle(client, call->handle);
    }
    curl_slist_free_all(headers);
    if (result < 0) {
        strbuf_release(&response->body);
        response->status = 0;
    }
    return result;
}

int http_client_request(struct http_client *client, const struct http_client_request *request,
                        struct http_client_response *ret, struct err *err)
{
    struct call call = {.request = request, .response = ret, .err = err};
    return perform(client, &call);
}

int http_client_stream(struct http_client *client, const struct http_client_request *request,
                       http_client_bytes_fn *on_bytes, void *arg, struct http_client_response *ret,
                       struct err *err)
{
    struct call call = {.request = request, .on_bytes = on_bytes, .arg = arg, .response = ret, .err = err};
    return perform(client, &call);
}
