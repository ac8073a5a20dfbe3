#include "operator/local/console.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"

#define DEFAULT_ROWS    24
#define DEFAULT_COLUMNS 80
#define LOG_JSON_DEPTH  8

struct console {
    int fd;
    bool has_table;
    pthread_mutex_t mu; /* the only lock under which is written */
    /* guarded by mu */
    char *table; /* as it is on the screen; NULL: none */
};

struct console *console_new(int fd, bool has_table)
{
    struct console *console = xcalloc(1, sizeof *console);
    console->fd = fd;
    console->has_table = has_table && isatty(fd);
    pthread_mutex_init(&console->mu, NULL);
    return console;
}

void console_free(struct console *console)
{
    if (console) {
        pthread_mutex_destroy(&console->mu);
        free(console->table);
        free(console);
    }
}

bool console_has_table(const struct console *console)
{
    return console->has_table;
}

void console_size(const struct console *console, int *ret_rows, int *ret_columns)
{
    struct winsize size;
    bool known = ioctl(console->fd, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0;
    *ret_rows = known ? size.ws_row : DEFAULT_ROWS;
    *ret_columns = known ? size.ws_col : DEFAULT_COLUMNS;
}

/* ---- writing; mu held ---- */

/* A terminal or pipe that takes nothing any more is no reason to stop serving. */
static void write_all(const struct console *console, const struct strbuf *text)
{
    for (size_t done = 0; done < text->len;) {
        ssize_t written = write(console->fd, text->buf + done, text->len - done);
        if (written < 0 && errno != EINTR) {
            return;
        }
        done += written > 0 ? (size_t)written : 0;
    }
}

/* Back to the table's first line, and everything from there on is gone. */
static void append_erasure(const struct console *console, struct strbuf *out)
{
    int lines = 0;
    for (const char *c = console->table; c && *c; c++) {
        lines += *c == '\n' ? 1 : 0;
    }
    if (lines > 0) {
        strbuf_appendf(out, "\r\033[%dA\033[J", lines);
    }
}

static void write_above_table(struct console *console, const char *line)
{
    CLEANUP_STRBUF struct strbuf out;
    strbuf_init(&out, CONSOLE_LINE_MAX_BYTES + CONSOLE_TABLE_MAX_BYTES);
    pthread_mutex_lock(&console->mu);
    append_erasure(console, &out);
    strbuf_append_str(&out, line);
    strbuf_append_char(&out, '\n');
    strbuf_append_str(&out, console->table ? console->table : "");
    write_all(console, &out);
    pthread_mutex_unlock(&console->mu);
}

void console_set_table(struct console *console, const char *lines)
{
    CLEANUP_STRBUF struct strbuf out;
    strbuf_init(&out, CONSOLE_TABLE_MAX_BYTES * 2);
    pthread_mutex_lock(&console->mu);
    append_erasure(console, &out);
    free(console->table);
    console->table = lines[0] ? xstrdup(lines) : NULL;
    strbuf_append_str(&out, lines);
    write_all(console, &out);
    pthread_mutex_unlock(&console->mu);
}

/* ---- lines ---- */

/* Control characters of a process must not move the cursor, or colour what follows. */
static void append_printable(struct strbuf *out, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        bool fine = c >= ' ' || c == '\t' || c == '\n';
        strbuf_append_char(out, fine && c != 0x7f ? text[i] : '?');
    }
}

static void say_line(struct console *console, const char *source, const char *text, size_t len)
{
    CLEANUP_STRBUF struct strbuf line;
    strbuf_init(&line, CONSOLE_LINE_MAX_BYTES);
    struct tm now;
    time_t seconds = time(NULL);
    if (localtime_r(&seconds, &now)) {
        strbuf_appendf(&line, "%02d:%02d:%02d ", now.tm_hour, now.tm_min, now.tm_sec);
    }
    if (source && source[0]) {
        strbuf_appendf(&line, "%s | ", source);
    }
    size_t room = line.cap - line.len;
    append_printable(&line, text, len > room ? utf8_cut_len(text, room) : len);
    write_above_table(console, line.buf);
}

__attribute__((format(printf, 3, 0))) static void say_formatted(struct console *console, const char *source,
                                                                const char *format, va_list args)
{
    CLEANUP_STRBUF struct strbuf text;
    strbuf_init(&text, CONSOLE_LINE_MAX_BYTES);
    strbuf_vappendf(&text, format, args);
    say_line(console, source, text.buf, text.len);
}

void console_say(struct console *console, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say_formatted(console, /* source= */ NULL, format, args);
    va_end(args);
}

void console_event(struct console *console, const char *function, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say_formatted(console, function, format, args);
    va_end(args);
}

void console_log(void *arg, enum log_level level, const char *object, const char *message)
{
    CLEANUP_FREE char *text =
        level == LOG_INFO ? xstrdup(message) : xasprintf("%s: %s", log_level_name(level), message);
    say_line(arg, object, text, strlen(text));
}

/* What a log line of ours has beside its message. */
static void append_members(const cJSON *tree, struct strbuf *out)
{
    static const char *const left_out[] = {"time", "level", "component", "object", "message", "traceId"};
    const cJSON *member;
    cJSON_ArrayForEach(member, tree)
    {
        bool shown = true;
        for (size_t i = 0; i < ARRAY_SIZE(left_out); i++) {
            shown = shown && strcmp(member->string, left_out[i]) != 0;
        }
        if (shown) {
            CLEANUP_FREE char *value =
                cJSON_IsString(member) ? xstrdup(member->valuestring) : json_print_dup(member);
            strbuf_appendf(out, " %s=%s", member->string, value);
        }
    }
}

void console_process_line(struct console *console, const char *process, const char *text, size_t len)
{
    struct err err = ERR_INIT;
    CLEANUP_JSON cJSON *tree = NULL;
    if (len == 0 || text[0] != '{' || json_parse(text, len, LOG_JSON_DEPTH, &tree, &err) < 0 ||
        !json_string(tree, "message") || !json_string(tree, "level")) {
        say_line(console, process, text, len);
        return;
    }
    CLEANUP_STRBUF struct strbuf line;
    strbuf_init(&line, CONSOLE_LINE_MAX_BYTES);
    strbuf_appendf(&line, "%s: %s", json_string(tree, "level"), json_string(tree, "message"));
    append_members(tree, &line);
    say_line(console, process, line.buf, line.len);
}
