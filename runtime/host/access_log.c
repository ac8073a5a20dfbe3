#include "runtime/host/access_log.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"

#define FRACTION_MAX_CHARS 20
#define REMOTE_MAX_BYTES   48

/* Digits with at most one point, so that strtod() takes it all and reads no sign, exponent or name. */
static bool parse_fraction(const char *text, double *ret_fraction)
{
    size_t len = strlen(text);
    const char *point = strchr(text, '.');

    if (len == 0 || len > FRACTION_MAX_CHARS || text[strspn(text, "0123456789.")] != '\0' || text[0] == '.' ||
        text[len - 1] == '.' || (point != NULL && strchr(point + 1, '.') != NULL))
        return false;
    *ret_fraction = strtod(text, NULL);
    return *ret_fraction <= 1;
}

bool access_log_parse(const char *text, struct access_log *ret_log)
{
    struct access_log log = {.on = true, .fraction = 1};

    if (strcmp(text, "off") == 0)
        log = (struct access_log){.on = false};
    else if (strcmp(text, "all") != 0 && !parse_fraction(text, &log.fraction))
        return false;
    *ret_log = log;
    return true;
}

bool access_log_wants(const struct access_log *log, int status, uint64_t id)
{
    if (!log->on || status >= 500)
        return log->on;
    return (double)(id >> 11) * 0x1p-53 < log->fraction; /* as many bits as a double has: [0, 1) */
}

void access_log_write(const struct http_request *http, int status, int64_t took_us, int64_t waited_us)
{
    struct log_members members;

    log_members_init(&members);
    log_members_string(&members, "method", http_request_method(http), ACCESS_LOG_METHOD_MAX_BYTES);
    log_members_string(&members, "path", http_request_raw_path(http), ACCESS_LOG_PATH_MAX_BYTES);
    log_members_int64(&members, "status", status);
    log_members_int64(&members, "bytesIn", (int64_t)http_request_received_bytes(http));
    log_members_int64(&members, "bytesOut", (int64_t)http_request_sent_bytes(http));
    log_members_ms(&members, "durationMs", took_us);
    log_members_ms(&members, "waitedMs", waited_us);
    log_members_bool(&members, "reused", http_request_is_reused(http));
    log_members_string(&members, "remote", http_request_remote_ip(http), REMOTE_MAX_BYTES);
    log_write_members(LOG_INFO, &members, "request");
}
