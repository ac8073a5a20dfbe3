/* http_client.h - libcurl, wrapped whole: no curl_* name is used outside http_client.c. HTTP/1.1 only.
 *
 * A client keeps a connection per (thread using it) in a small pool, so TCP and TLS are reused. Peers are verified
 * always. No redirects, no proxies from the environment, protocols http and https only.
 *
 * Threads: one client may be used from many threads; each call takes an idle handle of the pool or makes one.
 * http_client_global_init() is called by main before any thread starts.
 * Cancel: when `stop` is set, a call in progress returns ERR_CANCELLED at once; only the resolution of a host name is
 * waited for.
 *
 * Errors: ERR_UNAVAILABLE (no connection, not trusted, or the answer broke off), ERR_TIMEOUT, ERR_CANCELLED, ERR_TOO_LARGE,
 * ERR_INVALID (a malformed request or certificate of ours). A request on a kept connection that the peer had closed is sent
 * again by libcurl, also a POST.
 */
#ifndef CICADA_HTTP_HTTP_CLIENT_H
#define CICADA_HTTP_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/stop.h"
#include "runtime/base/strbuf.h"

/* Also has the process ignore SIGPIPE: OpenSSL writes to sockets without MSG_NOSIGNAL. */
void http_client_global_init(void);

struct http_client;

struct http_client_settings {
    const char *base_url;        /* "https://10.96.0.1:443"; no trailing slash */
    const char *ca_file;         /* PEM; NULL: the system's */
    const char *ca_pem;          /* PEM text instead of a file (kubeconfig ...-data), or NULL */
    const char *client_cert_pem; /* PEM text or NULL */
    const char *client_key_pem;
    int64_t connect_timeout_ms; /* > 0 */
    const struct stop *stop;    /* borrowed, may be NULL */
};

struct http_client_request {
    const char *method;
    const char *path_and_query; /* begins with '/' */
    const char *bearer_token;   /* NULL: none */
    const char *content_type;   /* NULL: none */
    const char *accept;         /* NULL: application/json */
    const void *body;
    size_t body_len;
    int64_t timeout_ms; /* whole call; streams: longest silence; 0: no limit */
    size_t max_response_bytes;
};

struct http_client_response {
    int status;
    int64_t retry_after_ms; /* 0: none; seconds form only */
    struct strbuf body;
};
void http_client_response_release(struct http_client_response *response);

struct http_client *http_client_new(const struct http_client_settings *settings); /* settings are copied */
void http_client_free(struct http_client *client);

/* 0 with any status that was received; -1 only if there was no (whole) answer. *ret is initialised by the call. */
int http_client_request(struct http_client *client, const struct http_client_request *request,
                        struct http_client_response *ret, struct err *err) MUST_CHECK;

/* A streamed answer: on a 2xx status bytes go to on_bytes in pieces of any size as they come; returning -1 (with err
 * filled) ends the call with that error. Any other status is collected in *ret as above. Returns 0 when the peer ended
 * the stream. Silence above timeout_ms is ERR_TIMEOUT. */
typedef int http_client_bytes_fn(void *arg, const char *data, size_t len, struct err *err);
int http_client_stream(struct http_client *client, const struct http_client_request *request,
                       http_client_bytes_fn *on_bytes, void *arg, struct http_client_response *ret,
                       struct err *err) MUST_CHECK;

#endif
