#include "operator/kube/kube_status.h"

#include "runtime/base/json.h"
#include "runtime/base/text.h"

static enum err_code code_of(int http_status, const char *reason, const char *message)
{
    switch (http_status) {
    case 401:
        return ERR_UNAUTHORIZED;
    case 403:
        return ERR_FORBIDDEN;
    case 404:
        return ERR_NOT_FOUND;
    case 408:
        return ERR_UNAVAILABLE;
    case 409:
        return strcmp(reason, "AlreadyExists") == 0 ? ERR_ALREADY_EXISTS : ERR_CONFLICT;
    case 410:
        return ERR_GONE;
    case 413:
        return ERR_TOO_LARGE;
    case 429:
        return ERR_THROTTLED;
    default:
        break;
    }
    /* 1.20 answers so to duplicate or unknown fields in a pod template: trying again cannot help. */
    if (http_status == 500 && str_starts_with(message, "failed to create typed patch object"))
        return ERR_INVALID;
    return http_status >= 400 && http_status < 500 ? ERR_INVALID : ERR_UNAVAILABLE;
}

static int64_t retry_after_of(const cJSON *status, int64_t header_ms)
{
    if (header_ms > 0)
        return header_ms;
    int64_t seconds = json_int64(json_object(status, "details"), "retryAfterSeconds", 0);
    return seconds > 0 && seconds < 3600 ? seconds * 1000 : 0;
}

static int set_from(const cJSON *status, int http_status, int64_t retry_after_ms, struct err *err)
{
    const char *reason = json_string(status, "reason");
    const char *message = json_string(status, "message");
    enum err_code code = code_of(http_status, reason ? reason : "", message ? message : "");
    if (message && message[0])
        err_set(err, code, "%s", message);
    else if (reason && reason[0])
        err_set(err, code, "HTTP status %d: %s", http_status, reason);
    else
        err_set(err, code, "HTTP status %d", http_status);
    err->retry_after_ms = retry_after_of(status, retry_after_ms);
    return -1;
}

/* Proxies and the server's own mux answer in plain text: its first line, if it is one that people can read. */
static int set_from_text(int http_status, int64_t retry_after_ms, const char *body, size_t body_len,
                         struct err *err)
{
    size_t len = 0;
    while (len < body_len && len < 200 && body[len] >= 0x20 && body[len] < 0x7f)
        len++;
    set_from(/* status= */ NULL, http_status, retry_after_ms, err);
    if (len > 0 && body[0] != '{' && body[0] != '<')
        err_set(err, err->code, "HTTP status %d: %.*s", http_status, (int)len, body);
    err->retry_after_ms = retry_after_ms;
    return -1;
}

int kube_status_from_answer(int http_status, int64_t retry_after_ms, const char *body, size_t body_len,
                            struct err *err)
{
    CLEANUP_JSON cJSON *status = NULL;
    struct err ignored = ERR_INIT;
    if (json_parse(body, body_len, JSON_DEPTH_MAX, &status, &ignored) != 0 || !cJSON_IsObject(status))
        return set_from_text(http_status, retry_after_ms, body, body_len, err);
    return set_from(status, http_status, retry_after_ms, err);
}

int kube_status_from_object(const cJSON *status, struct err *err)
{
    return set_from(status, (int)json_int64(status, "code", 0), /* retry_after_ms= */ 0, err);
}
