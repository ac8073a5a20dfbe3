/* access_log.h - a line for each request that was answered, or for a part of them; for answers of 5xx always, once it is on.
 *
 * A line has the members of every log line and method, path, status, bytesIn, bytesOut, durationMs, waitedMs, reused,
 * remote. No query, no header, no body. It is written at level info.
 *
 * Threads: any.
 */
#ifndef CICADA_HOST_ACCESS_LOG_H
#define CICADA_HOST_ACCESS_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/http/http_server.h"

#define ACCESS_LOG_METHOD_MAX_BYTES 32
#define ACCESS_LOG_PATH_MAX_BYTES   1024

struct access_log {
    bool on;
    double fraction; /* of the requests below 500: 0 to 1 */
};

/* "off", "all", or the fraction; false: none of these. */
bool access_log_parse(const char *text, struct access_log *ret_log);
/* id: of the request, evenly distributed over 64 bits. The same id is always decided the same way. */
bool access_log_wants(const struct access_log *log, int status, uint64_t id);
/* After the answer was sent. */
void access_log_write(const struct http_request *http, int status, int64_t took_us, int64_t waited_us);

#endif
