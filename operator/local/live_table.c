#include "operator/local/live_table.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "operator/local/callers.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"

#define PERIOD_MS      500
#define ROWS_LEFT_FREE 4 /* of the terminal, for lines */
#define CELL_SIZE      24

struct live_table {
    struct loop *loop;
    struct console *console;
    struct fleet *fleet;
    struct gateway *gateway;
    struct loop_timer timer;
};

/* In characters as a terminal counts them; what is cut ends the row. */
static void append_cut(struct strbuf *out, const struct strbuf *row, int columns)
{
    size_t len = row->len;
    if (len > (size_t)columns) {
        len = utf8_cut_len(row->buf, (size_t)columns);
    }
    strbuf_append(out, row->buf, len);
    strbuf_append_char(out, '\n');
}

static void format_ms(char out[CELL_SIZE], double ms)
{
    if (isnan(ms) || ms <= 0) {
        snprintf(out, CELL_SIZE, "-");
    } else if (ms < 100) {
        snprintf(out, CELL_SIZE, "%.1f ms", ms);
    } else if (ms < 10000) {
        snprintf(out, CELL_SIZE, "%.0f ms", ms);
    } else {
        snprintf(out, CELL_SIZE, "%.1f s", ms / 1e3);
    }
}

static void append_header(struct strbuf *out, int columns)
{
    CLEANUP_STRBUF struct strbuf row;
    strbuf_init(&row, CONSOLE_LINE_MAX_BYTES);
    strbuf_appendf(&row, "%-28s %-19s %8s %9s %8s %9s %9s %9s  %s", "FUNCTION", "STATE", "REPLICAS",
                   "REQUESTS", "EVENTS", "P50", "P99", "COLD", "CALLED BY");
    append_cut(out, &row, columns);
}

static void format_events(char out[CELL_SIZE], const struct fleet_row *row)
{
    if (!row->events.any || !row->events.known) {
        snprintf(out, CELL_SIZE, row->events.any ? "?" : "-");
    } else {
        snprintf(out, CELL_SIZE, "%" PRId64 "%s", row->events.waiting, row->events.more ? "+" : "");
    }
}

/* In local time; with the day if it is another than today. */
static void append_next_run(struct strbuf *out, int64_t next_run_s)
{
    char text[CELL_SIZE];
    struct tm at, today;
    time_t next = (time_t)next_run_s, now = time(NULL);
    if (next_run_s > 0 && localtime_r(&next, &at) && localtime_r(&now, &today)) {
        bool is_today = at.tm_yday == today.tm_yday && at.tm_year == today.tm_year;
        strftime(text, sizeof text, is_today ? "%H:%M:%S" : "%d %b %H:%M", &at);
        strbuf_appendf(out, ", next at %s", text);
    }
}

void live_table_row(const struct fleet_row *row, const struct gateway_function_figures *figures, int port,
                    int columns, struct strbuf *out)
{
    CLEANUP_STRBUF struct strbuf text;
    strbuf_init(&text, CONSOLE_LINE_MAX_BYTES);
    CLEANUP_FREE char *key = xasprintf("%s/%s", row->spec->namespace, row->spec->name);
    CLEANUP_FREE char *callers = callers_text(row->spec, port);
    char p50[CELL_SIZE], p99[CELL_SIZE], cold[CELL_SIZE], events[CELL_SIZE];
    format_events(events, row);
    format_ms(p50, figures ? figures->p50_ms : NAN);
    format_ms(p99, figures ? figures->p99_ms : NAN);
    format_ms(cold, figures ? figures->cold_ms : NAN);
    strbuf_appendf(&text, "%-28s %-19s %8d %9" PRId64 " %8s %9s %9s %9s  %s", key, row->state, row->replicas,
                   figures ? figures->requests : 0, events, p50, p99, cold, callers);
    append_next_run(&text, row->events.next_run_s);
    if (row->events.dead > 0) {
        strbuf_appendf(&text, ", %" PRId64 " dead letters", row->events.dead);
    }
    append_cut(out, &text, columns);
}

static void append_rows(const struct live_table *table, int columns, size_t most, struct strbuf *out)
{
    struct fleet_row *rows;
    size_t count = fleet_rows(table->fleet, &rows);
    size_t shown = count <= most ? count : most - 1;
    int port = gateway_public_port(table->gateway);
    for (size_t i = 0; i < shown; i++) {
        struct gateway_function_figures figures;
        bool known =
            gateway_function_figures(table->gateway, rows[i].spec->namespace, rows[i].spec->name, &figures);
        live_table_row(&rows[i], known ? &figures : NULL, port, columns, out);
    }
    if (shown < count) {
        strbuf_appendf(out, "and %zu more\n", count - shown);
    }
    free(rows);
}

static void show(struct loop_timer *timer)
{
    struct live_table *table = container_of(timer, struct live_table, timer);
    CLEANUP_STRBUF struct strbuf lines;
    int rows, columns;
    strbuf_init(&lines, CONSOLE_TABLE_MAX_BYTES);
    console_size(table->console, &rows, &columns);
    append_header(&lines, columns);
    append_rows(table, columns, rows / 2 > ROWS_LEFT_FREE ? (size_t)(rows / 2) : ROWS_LEFT_FREE, &lines);
    console_set_table(table->console, lines.buf);
    loop_timer_set(table->loop, timer, clock_monotonic_ms() + PERIOD_MS);
}

struct live_table *live_table_new(struct loop *loop, struct console *console, struct fleet *fleet,
                                  struct gateway *gateway)
{
    if (!console_has_table(console)) {
        return NULL;
    }
    struct live_table *table = xcalloc(1, sizeof *table);
    table->loop = loop;
    table->console = console;
    table->fleet = fleet;
    table->gateway = gateway;
    loop_timer_init(&table->timer, show);
    loop_timer_set(loop, &table->timer, clock_monotonic_ms());
    return table;
}

void live_table_free(struct live_table *table)
{
    if (table) {
        loop_timer_close(table->loop, &table->timer);
        console_set_table(table->console, "");
        free(table);
    }
}
