#include "operator/local/live_table.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

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
    strbuf_appendf(&row, "%-28s %-19s %8s %9s %9s %9s %9s  %s", "FUNCTION", "STATE", "REPLICAS", "REQUESTS",
                   "P50", "P99", "COLD", "URL");
    append_cut(out, &row, columns);
}

void live_table_row(const struct fleet_row *row, const struct gateway_function_figures *figures, int port,
                    int columns, struct strbuf *out)
{
    CLEANUP_STRBUF struct strbuf text;
    strbuf_init(&text, CONSOLE_LINE_MAX_BYTES);
    CLEANUP_FREE char *key = xasprintf("%s/%s", row->namespace, row->name);
    char p50[CELL_SIZE], p99[CELL_SIZE], cold[CELL_SIZE];
    format_ms(p50, figures ? figures->p50_ms : NAN);
    format_ms(p99, figures ? figures->p99_ms : NAN);
    format_ms(cold, figures ? figures->cold_ms : NAN);
    strbuf_appendf(&text, "%-28s %-19s %8d %9" PRId64 " %9s %9s %9s", key, row->state, row->replicas,
                   figures ? figures->requests : 0, p50, p99, cold);
    if (row->is_public) {
        strbuf_appendf(&text, "  http://127.0.0.1:%d/fn/%s/", port, key);
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
        bool known = gateway_function_figures(table->gateway, rows[i].namespace, rows[i].name, &figures);
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
