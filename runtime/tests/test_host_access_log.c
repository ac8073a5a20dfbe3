/* Which requests the access log takes. */
#include <stdio.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/host/access_log.h"
#include "runtime/host/trace_context.h"
#include "runtime/tests/support_test.h"

static void parses(void **state)
{
    static const struct {
        const char *text;
        bool on;
        double fraction;
    } good[] = {{"off", false, 0}, {"all", true, 1},   {"0", true, 0},        {"1", true, 1},
                {"1.0", true, 1},  {"0.5", true, 0.5}, {"0.001", true, 0.001}};
    static const char *const bad[] = {"",    "on",  "OFF", "1.1",   "2",   "-0.5",
                                      "+1",  ".5",  "5.",  "0.5.5", "1e0", "0x1",
                                      "nan", "inf", " 1",  "1 ",    "0,5", "0.000000000000000000001"};
    struct access_log log = {.on = true, .fraction = 7};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        if (access_log_parse(bad[i], &log))
            fail_msg("\"%s\" was taken", bad[i]);
    assert_true(log.on && log.fraction == 7);
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_true(access_log_parse(good[i].text, &log));
        assert_int_equal(log.on, good[i].on);
        assert_true(log.fraction == good[i].fraction);
    }
}

#define IDS 100000

static int taken(const char *text, int status)
{
    struct access_log log;
    struct trace_ids ids;
    int count = 0;

    assert_true(access_log_parse(text, &log));
    trace_ids_init(&ids);
    for (int i = 0; i < IDS; i++) {
        uint64_t id = trace_ids_next(&ids);
        bool wanted = access_log_wants(&log, status, id);
        assert_int_equal(wanted, access_log_wants(&log, status, id));
        count += wanted;
    }
    return count;
}

static void takes_its_part(void **state)
{
    (void)state;
    assert_int_equal(taken("off", 200), 0);
    assert_int_equal(taken("off", 503), 0);
    assert_int_equal(taken("all", 200), IDS);
    assert_int_equal(taken("1", 404), IDS);
    assert_int_equal(taken("0", 499), 0);
    assert_int_equal(taken("0", 500), IDS);
    assert_int_equal(taken("0.01", 599), IDS);
    assert_in_range(taken("0.25", 200), 25000 - 1400, 25000 + 1400); /* ten sigma */
    assert_in_range(taken("0.01", 200), 1000 - 320, 1000 + 320);
}

static void takes_the_ends(void **state)
{
    struct access_log all, none;

    (void)state;
    assert_true(access_log_parse("1", &all));
    assert_true(access_log_parse("0", &none));
    assert_true(access_log_wants(&all, 200, UINT64_MAX));
    assert_true(access_log_wants(&all, 200, 0));
    assert_false(access_log_wants(&none, 200, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses),
        cmocka_unit_test(takes_its_part),
        cmocka_unit_test(takes_the_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
