/* What cicada-local says: lines into a pipe, lines above a table on a terminal, and the table's rows. */
#include <fcntl.h>
#include <math.h>
#include <pty.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "operator/local/console.h"
#include "operator/local/live_table.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/tests/support_test.h"

#define HEARD_MAX_BYTES 100000
#define TIME_LEN        9 /* "12:34:56 " */

/* All that was written so far; the caller frees. */
static char *heard(int fd)
{
    struct strbuf text;
    char data[4096];
    ssize_t got;
    strbuf_init(&text, HEARD_MAX_BYTES);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    while ((got = read(fd, data, sizeof data)) > 0) {
        strbuf_append(&text, data, (size_t)got);
    }
    return strbuf_detach(&text, NULL);
}

static void expect_line(int fd, const char *expected)
{
    CLEANUP_FREE char *text = heard(fd);
    CLEANUP_FREE char *line = xasprintf("%s\n", expected);
    assert_true(strlen(text) > TIME_LEN && text[2] == ':' && text[5] == ':' && text[8] == ' ');
    assert_string_equal(text + TIME_LEN, line);
}

static void test_lines_in_a_pipe(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    struct console *console = console_new(ends[1], /* has_table= */ true);
    assert_false(console_has_table(console)); /* it is no terminal */
    console_say(console, "%d functions", 3);
    expect_line(ends[0], "3 functions");
    console_event(console, "shop/orders", "serves");
    expect_line(ends[0], "shop/orders | serves");
    console_log(console, LOG_INFO, "", "as it is");
    expect_line(ends[0], "as it is");
    console_log(console, LOG_WARN, "shop/orders", "odd");
    expect_line(ends[0], "shop/orders | warn: odd");
    console_free(console);
    close(ends[0]);
    close(ends[1]);
}

static void test_lines_of_processes(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    struct console *console = console_new(ends[1], /* has_table= */ false);
    const struct {
        const char *said, *shown;
    } cases[] = {
        {"plain text", "p | plain text"},
        {"{\"level\":\"warn\",\"message\":\"slow "
         "statement\",\"component\":\"runtime\",\"statement\":\"SELECT 1\",\"durationMs\":12.5}",
         "p | warn: slow statement statement=SELECT 1 durationMs=12.5"},
        {"{\"level\":\"warn\"}", "p | {\"level\":\"warn\"}"},
        {"{not json", "p | {not json"},
        {"\033[31mred\007", "p | ?[31mred?"},
        {"", "p | "},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        console_process_line(console, "p", cases[i].said, strlen(cases[i].said));
        expect_line(ends[0], cases[i].shown);
    }
    console_free(console);
    close(ends[0]);
    close(ends[1]);
}

static void test_long_lines_are_cut(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    struct console *console = console_new(ends[1], /* has_table= */ false);
    CLEANUP_FREE char *text = xmalloc(CONSOLE_LINE_MAX_BYTES * 2);
    memset(text, 'x', CONSOLE_LINE_MAX_BYTES * 2);
    console_process_line(console, "p", text, CONSOLE_LINE_MAX_BYTES * 2);
    CLEANUP_FREE char *shown = heard(ends[0]);
    assert_int_equal(strlen(shown), CONSOLE_LINE_MAX_BYTES + 1);
    console_free(console);
    close(ends[0]);
    close(ends[1]);
}

static void test_lines_go_above_the_table(void **state)
{
    (void)state;
    int terminal, ours, rows, columns;
    struct winsize size = {.ws_row = 30, .ws_col = 100};
    struct termios raw;
    memset(&raw, 0, sizeof raw);
    assert_int_equal(openpty(&ours, &terminal, NULL, &raw, &size), 0);
    struct console *console = console_new(terminal, /* has_table= */ true);
    assert_true(console_has_table(console));
    console_size(console, &rows, &columns);
    assert_int_equal(rows, 30);
    assert_int_equal(columns, 100);
    console_set_table(console, "a\nb\n");
    CLEANUP_FREE char *first = heard(ours);
    assert_string_equal(first, "a\nb\n");
    console_say(console, "line");
    CLEANUP_FREE char *second = heard(ours);
    assert_non_null(strstr(second, "\r\033[2A\033[J"));
    assert_non_null(strstr(second, " line\na\nb\n"));
    console_set_table(console, "");
    CLEANUP_FREE char *third = heard(ours);
    assert_string_equal(third, "\r\033[2A\033[J");
    console_free(console);
    close(terminal);
    close(ours);
}

static void test_rows(void **state)
{
    (void)state;
    struct strbuf out;
    strbuf_init(&out, HEARD_MAX_BYTES);
    char shop[] = "shop", name[] = "orders", other[] = "x", queue[] = "new", table[] = "public.users",
         cron[] = "0 2 * * *", zone[] = "Europe/Berlin";
    struct function_trigger triggers[] = {
        {.source = TRIGGER_QUEUE, .queue = queue},
        {.source = TRIGGER_TABLE, .table = table},
        {.source = TRIGGER_SCHEDULE, .cron = cron, .time_zone = zone},
    };
    const struct function_spec orders = {.namespace = shop, .name = name, .has_http = true};
    const struct function_spec x = {
        .namespace = shop, .name = other, .triggers = triggers, .trigger_count = ARRAY_SIZE(triggers)};
    const struct fleet_row row = {.spec = &orders, .state = "serving", .replicas = 2};
    const struct gateway_function_figures figures = {
        .requests = 1204, .p50_ms = 0.94, .p99_ms = 130.4, .cold_ms = 12345.6};
    live_table_row(&row, &figures, 8080, 200, &out);
    assert_string_equal(out.buf, "shop/orders                  serving                    2      1204        "
                                 "-    0.9 ms    130 ms    12.3 s"
                                 "  http://127.0.0.1:8080/fn/shop/orders/\n");
    strbuf_clear(&out);
    struct fleet_row waits = {.spec = &x, .state = "DatabaseUnreachable", .events = {.any = true}};
    const struct gateway_function_figures none = {.p50_ms = NAN, .p99_ms = NAN};
    live_table_row(&waits, &none, 8080, 80, &out);
    assert_string_equal(out.buf,
                        "shop/x                       DatabaseUnreachable        0         0        ?    \n");
    strbuf_clear(&out);
    waits.state = "asleep";
    waits.events.known = waits.events.more = true;
    waits.events.waiting = 10004;
    waits.events.dead = 2;
    live_table_row(&waits, &none, 8080, 200, &out);
    assert_string_equal(
        out.buf, "shop/x                       asleep                     0         0   10004+         -"
                 "         -         -  queue new, changes of public.users, schedule 0 2 * * * "
                 "Europe/Berlin, 2 dead letters\n");
    strbuf_clear(&out);
    live_table_row(&waits, NULL, 8080, 10, &out);
    assert_string_equal(out.buf, "shop/x    \n");
    strbuf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_in_a_pipe),
        cmocka_unit_test(test_lines_of_processes),
        cmocka_unit_test(test_long_lines_are_cut),
        cmocka_unit_test(test_lines_go_above_the_table),
        cmocka_unit_test(test_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
