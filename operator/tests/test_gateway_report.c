/* What two readings of a gateway say about a Function. */
#include "operator/autoscaler/gateway_report.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"

static void free_report_p(struct gateway_report **report)
{
    gateway_report_free(*report);
}
#define CLEANUP_REPORT CLEANUP(free_report_p)

static struct gateway_report *report(const char *text)
{
    struct gateway_report *parsed = NULL;
    struct err err = ERR_INIT;
    if (gateway_report_parse(text, strlen(text), &parsed, &err)) {
        fail_msg("%s", err.msg);
    }
    return parsed;
}

#define FIRST                                                                                                \
    "{\"gateway\":\"g\",\"uptimeMs\":10000,\"draining\":false,\"functions\":["                               \
    "{\"namespace\":\"shop\",\"name\":\"b\",\"inFlight\":3,\"waiting\":1,\"inFlightMs\":5000,"               \
    "\"waitingMs\":1000,\"arrivals\":9,\"idleMs\":0},"                                                       \
    "{\"namespace\":\"shop\",\"name\":\"a\",\"inFlight\":0,\"waiting\":0,\"inFlightMs\":70,"                 \
    "\"waitingMs\":0,\"arrivals\":1,\"idleMs\":800}]}"
#define SECOND                                                                                               \
    "{\"uptimeMs\":12000,\"functions\":[{\"namespace\":\"shop\",\"name\":\"b\",\"inFlight\":1,"              \
    "\"waiting\":0,\"inFlightMs\":9000,\"waitingMs\":2000,\"idleMs\":0,\"later\":{}}]}"

static void test_load_between_two_readings(void **state)
{
    (void)state;
    CLEANUP_REPORT struct gateway_report *first = report(FIRST), *second = report(SECOND);
    struct gateway_load load = gateway_report_load(first, second, "shop/b");
    assert_true(load.mean > 2.49 && load.mean < 2.51); /* (11000 - 6000) / 2000 */
    assert_int_equal(load.in_flight, 1);
    assert_int_equal(load.waiting, 0);
    assert_int_equal(load.idle_ms, 0);
}

static void test_load_of_one_reading_is_the_moment(void **state)
{
    (void)state;
    CLEANUP_REPORT struct gateway_report *first = report(FIRST);
    struct gateway_load load = gateway_report_load(NULL, first, "shop/b");
    assert_true(load.mean > 3.99 && load.mean < 4.01);
    assert_int_equal(load.waiting, 1);
    assert_int_equal(gateway_report_load(NULL, first, "shop/a").idle_ms, 800);
}

static void test_unlisted_functions_are_idle_since_the_start(void **state)
{
    (void)state;
    CLEANUP_REPORT struct gateway_report *second = report(SECOND);
    CLEANUP_REPORT struct gateway_report *old = report("{\"uptimeMs\":90000000,\"functions\":[]}");
    assert_int_equal(gateway_report_load(NULL, second, "shop/none").idle_ms, 12000);
    assert_int_equal(gateway_report_load(NULL, old, "shop/none").idle_ms, 3600000);
    assert_true(gateway_report_load(NULL, old, "shop/none").mean == 0);
}

static void test_bad_reports(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "[]",
        "{}",
        "{\"uptimeMs\":1}",
        "{\"uptimeMs\":-1,\"functions\":[]}",
        "{\"uptimeMs\":\"1\",\"functions\":[]}",
        "{\"uptimeMs\":1,\"functions\":{}}",
        "{\"uptimeMs\":1,\"functions\":[1]}",
        "{\"uptimeMs\":1,\"functions\":[{\"name\":\"a\"}]}",
        "{\"uptimeMs\":1,\"functions\":[{\"namespace\":\"a\",\"name\":\"b\"},{}]}",
        "{\"uptimeMs\":1,\"functions\":[]} x",
    };
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct gateway_report *parsed = NULL;
        struct err err = ERR_INIT;
        assert_int_equal(gateway_report_parse(texts[i], strlen(texts[i]), &parsed, &err), -1);
        assert_null(parsed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load_between_two_readings),
        cmocka_unit_test(test_load_of_one_reading_is_the_moment),
        cmocka_unit_test(test_unlisted_functions_are_idle_since_the_start),
        cmocka_unit_test(test_bad_reports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
