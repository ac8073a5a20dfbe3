#include "runtime/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"

static const char *const level_names[] = {"debug", "info", "warn", "error"};

static _Atomic enum log_level current_level = LOG_INFO;
static const char *current_component;

/* Longer names are cut: the scope is for people who search the log. */
static _Thread_local char scope_object[256];
static _Thread_local char scope_request_id[128];

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&current_level, level, memory_order_relaxed);
}

bool log_level_parse(const char *text, enum log_level *ret_level)
{
    for (int level = LOG_DEBUG; level <= LOG_ERROR; level++) {
        if (strcmp(text, level_names[level]) == 0) {
            *ret_level = (enum log_level)level;
            return true;
        }
    }
    return false;
}

bool log_enabled(enum log_level level)
{
    return level >= atomic_load_explicit(&current_level, memory_order_relaxed);
}

void log_set_component(const char *component)
{
    current_component = component;
}

void log_scope_set(const char *object, const char *request_id)
{
    snprintf(scope_object, sizeof(scope_object), "%s", object ? object : "");
    snprintf(scope_request_id, sizeof(scope_request_id), "%s", request_id ? request_id : "");
}

void log_scope_clear(void)
{
    scope_object[0] = '\0';
    scope_request_id[0] = '\0';
}

static void append_member(struct strbuf *line, const char *name, const char *value)
{
    if (value && *value) {
        strbuf_appendf(line, ",\"%s\":", name);
        strbuf_append_json_string(line, value, strlen(value));
    }
}

/* As much of the message as leaves room for the end of the line; cut between characters, never inside an escape. */
static void append_message(struct strbuf *line, const char *message, size_t len, bool cut)
{
    static const char ellipsis[] = "\xE2\x80\xA6";
    static const char end[] = "\"}\n";
    size_t limit = line->cap - (sizeof(ellipsis) - 1) - (sizeof(end) - 1);
    for (size_t i = 0; i < len;) {
        char escaped[TEXT_JSON_ESCAPE_SIZE];
        size_t escaped_len;
        size_t step = text_json_escape(message + i, len - i, escaped, &escaped_len);
        if (line->len + escaped_len > limit) {
            cut = true;
            break;
        }
        strbuf_append(line, escaped, escaped_len);
        i += step;
    }
    if (cut) {
        strbuf_append_str(line, ellipsis);
    }
    strbuf_append_str(line, end);
}

void log_write(enum log_level level, const char *format, ...)
{
    if (!log_enabled(level)) {
        return;
    }
    int saved_errno = errno;
    char message[LOG_LINE_MAX_BYTES];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    size_t message_len = len < 0 ? 0 : (size_t)len;
    bool cut = message_len >= sizeof(message);
    if (cut) {
        message_len = utf8_cut_len(message, sizeof(message) - 1);
    }

    char storage[LOG_LINE_MAX_BYTES + 1];
    struct strbuf line;
    strbuf_init_fixed(&line, storage, sizeof(storage));
    char now[RFC3339_SIZE];
    format_rfc3339_micro(clock_wall_us(), now);
    strbuf_appendf(&line, "{\"time\":\"%s\",\"level\":\"%s\"", now, level_names[level]);
    append_member(&line, "component", current_component);
    append_member(&line, "object", scope_object);
    append_member(&line, "requestId", scope_request_id);
    strbuf_append_str(&line, ",\"message\":\"");
    append_message(&line, message, message_len, cut);
    ssize_t written;
    do {
        written = write(STDERR_FILENO, line.buf, line.len);
    } while (written < 0 && errno == EINTR);
    errno = saved_errno;
}
