#include "runtime/base/log.h"

#include <errno.h>
#include <inttypes.h>
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
static log_sink *current_sink;
static void *current_sink_arg;

/* Borrowed; NULL: none. */
static _Thread_local const char *scope_object, *scope_request_id, *scope_trace_id;

#define SCOPE_MAX_BYTES 255 /* longer names are cut: the scope is for people who search the log */

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

const char *log_level_name(enum log_level level)
{
    return level_names[level];
}

void log_set_sink(log_sink *sink, void *arg)
{
    current_sink = sink;
    current_sink_arg = arg;
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
    scope_object = object;
    scope_request_id = request_id;
    scope_trace_id = NULL;
}

void log_scope_set_trace(const char *trace_id)
{
    scope_trace_id = trace_id;
}

void log_scope_clear(void)
{
    log_scope_set(NULL, NULL);
}

/* Without printf: a line has a dozen of them. */
static void append_name(struct strbuf *line, const char *name)
{
    strbuf_append(line, ",\"", 2);
    strbuf_append_str(line, name);
    strbuf_append(line, "\":", 2);
}

static void append_member(struct strbuf *line, const char *name, const char *value)
{
    if (value && *value) {
        append_name(line, name);
        strbuf_append_json_string(line, value, strnlen(value, SCOPE_MAX_BYTES));
    }
}

/* As much of the message as leaves room for the end of the line. */
static void write_line(enum log_level level, const struct strbuf *members, const char *message, size_t len)
{
    static const char end[] = "}\n";
    int saved_errno = errno;
    char storage[LOG_LINE_MAX_BYTES + 1];
    struct strbuf line;
    strbuf_init_fixed(&line, storage, sizeof(storage));
    char now[RFC3339_SIZE];
    format_rfc3339_micro(clock_wall_us(), now);
    strbuf_appendf(&line, "{\"time\":\"%s\",\"level\":\"%s\"", now, level_names[level]);
    append_member(&line, "component", current_component);
    append_member(&line, "object", scope_object);
    append_member(&line, "requestId", scope_request_id);
    append_member(&line, "traceId", scope_trace_id);
    if (members) {
        strbuf_append(&line, members->buf, members->len);
    }
    strbuf_append_str(&line, ",\"message\":");
    strbuf_append_json_cut(&line, message, len, line.cap - line.len - (sizeof(end) - 1));
    strbuf_append_str(&line, end);
    ssize_t written;
    do {
        written = write(STDERR_FILENO, line.buf, line.len);
    } while (written < 0 && errno == EINTR);
    errno = saved_errno;
}

void log_write(enum log_level level, const char *format, ...)
{
    if (!log_enabled(level)) {
        return;
    }
    int saved_errno = errno;
    char message[LOG_LINE_MAX_BYTES]; /* one that fills it is cut again: the line has other parts, too */
    va_list args;
    va_start(args, format);
    int len = vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    size_t message_len = len < 0 ? 0 : (size_t)len;
    if (message_len >= sizeof(message)) {
        message_len = utf8_cut_len(message, sizeof(message) - 1);
    }
    if (current_sink) {
        message[message_len] = '\0';
        current_sink(current_sink_arg, level, scope_object ? scope_object : "", message);
        errno = saved_errno;
        return;
    }
    write_line(level, /* members= */ NULL, message, message_len);
    errno = saved_errno;
}

/* ---- members ---- */

void log_members_init(struct log_members *members)
{
    strbuf_init_fixed(&members->text, members->storage, sizeof(members->storage));
}

/* A member that does not fit is left out as a whole. */
static void end_member(struct strbuf *text, size_t start_len)
{
    if (strbuf_failed(text)) {
        strbuf_truncate(text, start_len);
    }
}

void log_members_string(struct log_members *members, const char *name, const char *value, size_t max_bytes)
{
    struct strbuf *text = &members->text;
    size_t start_len = text->len;
    if (!value) {
        return;
    }
    append_name(text, name);
    strbuf_append_json_cut(text, value, strlen(value), max_bytes);
    end_member(text, start_len);
}

void log_members_int64(struct log_members *members, const char *name, int64_t value)
{
    size_t start_len = members->text.len;
    append_name(&members->text, name);
    strbuf_appendf(&members->text, "%" PRId64, value);
    end_member(&members->text, start_len);
}

void log_members_ms(struct log_members *members, const char *name, int64_t value_us)
{
    size_t start_len = members->text.len;
    append_name(&members->text, name);
    strbuf_appendf(&members->text, "%" PRId64 ".%03d", value_us / 1000, (int)(value_us % 1000));
    end_member(&members->text, start_len);
}

void log_members_bool(struct log_members *members, const char *name, bool value)
{
    size_t start_len = members->text.len;
    append_name(&members->text, name);
    strbuf_append_str(&members->text, value ? "true" : "false");
    end_member(&members->text, start_len);
}

void log_write_members(enum log_level level, const struct log_members *members, const char *message)
{
    if (log_enabled(level)) {
        write_line(level, &members->text, message, strlen(message));
    }
}
