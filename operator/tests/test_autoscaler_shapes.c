/* The autoscaler under recorded shapes of load: nobody waits for long, nothing flaps, the number is right in the end. With
 * CICADA_PLOTS=folder each shape is plotted there (`make plots`). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "operator/tests/support_film.h"
#include "operator/tests/support_simulator.h"
#include "runtime/base/mem.h"

/* Requests a second; half as many are in flight. */
static double ramp(int second)
{
    return second < 180 ? second * 0.5 : second < 300 ? 90 : 0;
}

static double spike(int second)
{
    return second >= 300 ? 0 : second >= 100 && second < 110 ? 120 : 10;
}

static double sine(int second)
{
    return second < 480 ? 60 - 40 * cos(second * 2 * 3.14159265 / 120) : 0;
}

static double flash_crowd(int second)
{
    return second >= 20 && second < 200 ? 100 : 0;
}

static double step_down(int second)
{
    return second < 120 ? 100 : second < 240 ? 20 : 0;
}

static double steady(int second)
{
    return second < 300 ? 80 : 0;
}

struct row {
    const char *name;
    double (*rate)(int second);
    int seconds, outage_from, outage_to;
    double wait_s;    /* nobody waits longer */
    int turns;        /* no more changes of direction */
    int at, replicas; /* the number at that second; it is zero in the end */
};

static const struct row rows[] = {
    {"ramp", ramp, 480, 0, 0, 4, 3, 290, 7},
    {"spike", spike, 480, 0, 0, 4, 3, 290, 1},
    {"sine", sine, 600, 0, 0, 4, 10, 470, 6},
    {"flash-crowd", flash_crowd, 360, 0, 0, 4, 1, 190, 8},
    {"step-down", step_down, 420, 0, 0, 4, 1, 230, 2},
    {"gateway-outage", steady, 480, 120, 200, 4, 1, 190, 6},
};

static void run_row(const struct row *row)
{
    static struct simulation simulation;
    simulation = (struct simulation){.name = row->name,
                                     .settings = usual,
                                     .seconds = row->seconds,
                                     .rate = row->rate,
                                     .outage_from = row->outage_from,
                                     .outage_to = row->outage_to};
    simulation_run(&simulation);
    const char *folder = getenv("CICADA_PLOTS");
    if (folder) {
        CLEANUP_FREE char *path = xasprintf("%s/%s.svg", folder, row->name);
        assert_int_equal(simulation_plot(&simulation, path), 0);
    }
    print_message("%s: longest wait %.1f s, %d turns, %d replicas at %d s, %d in the end\n", row->name,
                  simulation.longest_wait_s, simulation.turns, simulation.found[row->at].desired, row->at,
                  simulation.found[row->seconds - 1].desired);
    assert_true(simulation.longest_wait_s <= row->wait_s);
    assert_true(simulation.turns <= row->turns);
    assert_int_equal(simulation.found[row->at].desired, row->replicas);
    assert_int_equal(simulation.found[row->seconds - 1].desired, 0);
}

static void test_shapes(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        run_row(&rows[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
