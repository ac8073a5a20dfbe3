/* log.h - JSON lines on standard error.
 *
 * {"time":"...","level":"info","component":"gateway","object":"shop/create-order","requestId":"...","traceId":"...",
 *  "message":"..."}
 * Only main programs, controllers and hosts log above DEBUG; libraries return errors instead. No secret is logged.
 * A line is at most LOG_LINE_MAX_BYTES; longer messages are cut and end in "…".
 *
 * Threads: any. Each line is one write(2). The scope belongs to the calling thread.
 */
#ifndef CICADA_BASE_LOG_H
#define CICADA_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/strbuf.h"

#define LOG_LINE_MAX_BYTES    8192
#define LOG_MEMBERS_MAX_BYTES 4096

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

void log_set_level(enum log_level level); /* before threads start; default LOG_INFO */
bool log_level_parse(const char *text, enum log_level *ret_level); /* debug, info, warn, error */
bool log_enabled(enum log_level level);
void log_set_component(const char *component); /* borrowed; before threads start */

/* For programs that people watch: lines go there instead of standard error. The strings are borrowed for the call; object may be
 * empty. Called from any thread that logs; it must not log. Before threads start; NULL: standard error again. */
typedef void log_sink(void *arg, enum log_level level, const char *object, const char *message);
void log_set_sink(log_sink *sink, void *arg);
const char *log_level_name(enum log_level level);

/* What the calling thread is working on; NULL leaves a part out. The texts are borrowed until the scope is set anew or cleared. */
void log_scope_set(const char *object, const char *request_id);
void log_scope_set_trace(const char *trace_id);
void log_scope_clear(void);

void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Members beside the message, for lines that programs read. From the first on that does not fit into
 * LOG_MEMBERS_MAX_BYTES they are left out. Not to be copied. */
struct log_members {
    struct strbuf text;
    char storage[LOG_MEMBERS_MAX_BYTES + 1];
};
void log_members_init(struct log_members *members);
/* NULL: left out. A value of more than max_bytes as JSON is cut and ends in "…". */
void log_members_string(struct log_members *members, const char *name, const char *value, size_t max_bytes);
void log_members_int64(struct log_members *members, const char *name, int64_t value);
void log_members_ms(struct log_members *members, const char *name,
                    int64_t value_us); /* three decimals; >= 0 */
void log_members_bool(struct log_members *members, const char *name, bool value);
void log_write_members(enum log_level level, const struct log_members *members, const char *message);

#define log_debug(...)                                                                                       \
    do {                                                                                                     \
        if (log_enabled(LOG_DEBUG))                                                                          \
            log_write(LOG_DEBUG, __VA_ARGS__);                                                               \
    } while (0)
#define log_info(...)  log_write(LOG_INFO, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)

#endif
