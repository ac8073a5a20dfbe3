/* One pass of the scaler over a platform of numbers. */
#include "operator/autoscaler/scaler.h"

#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/tests/support_test.h"

#define FUNCTIONS 3

/* The platform: some Functions, what the gateway says of each, and what was written. */
struct world {
    struct metrics *metrics;
    struct scaler *scaler;
    const char *names[FUNCTIONS], *ids[FUNCTIONS];
    int replicas[FUNCTIONS], min_replicas[FUNCTIONS];
    struct autoscaler_load loads[FUNCTIONS];
    bool is_there[FUNCTIONS];
    int64_t now_ms;
    size_t unread;
    int64_t generation;
    int reads, loads_read, writes;
    enum err_code failure;                 /* of writes; ERR_NONE: they succeed */
    char *told_in_write;                   /* what scaler_told() says of the new number while it is written */
    int changes, changed_from, changed_to; /* as told by the scaler */
    enum autoscaler_reason changed_why;
};

static size_t read_gateways(void *arg)
{
    struct world *world = arg;
    world->reads++;
    world->now_ms += 1000;
    return world->unread;
}

static int index_of(const struct world *world, const char *name)
{
    int index = 0;
    while (strcmp(world->names[index], name) != 0) {
        index++;
    }
    return index;
}

static struct autoscaler_load read_load(void *arg, const char *namespace, const char *name)
{
    struct world *world = arg;
    assert_string_equal(namespace, "shop");
    world->loads_read++;
    struct autoscaler_load load = world->loads[index_of(world, name)];
    load.at_ms = world->now_ms;
    return load;
}

static void each(void *arg, scaler_visit *visit, void *visitor)
{
    struct world *world = arg;
    for (int i = 0; i < FUNCTIONS; i++) {
        struct scaler_target target = {
            .id = world->ids[i],
            .namespace = "shop",
            .name = world->names[i],
            .settings = {.min_replicas = world->min_replicas[i],
                         .max_replicas = 5,
                         .awake_min = 1,
                         .activation_replicas = 1,
                         .concurrency = 10,
                         .target_utilization = 100,
                         .idle_ms = 10000,
                         .window_ms = 60000},
            .state = {.replicas = world->replicas[i],
                      .ready = world->replicas[i],
                      .generation = world->generation,
                      .may_sleep = true},
        };
        if (world->is_there[i]) {
            visit(visitor, &target);
        }
    }
}

static int write_replicas(void *arg, const struct scaler_target *target, int replicas, struct err *err)
{
    struct world *world = arg;
    world->writes++;
    free(world->told_in_write);
    world->told_in_write = scaler_told(world->scaler, target->id, replicas);
    if (world->failure != ERR_NONE) {
        return err_set(err, world->failure, "not now");
    }
    world->replicas[index_of(world, target->name)] = replicas;
    return 0;
}

static void wrote(void *arg, const struct scaler_target *target, const struct autoscaler_decision *decision)
{
    struct world *world = arg;
    world->changes++;
    world->changed_from = target->state.replicas;
    world->changed_to = decision->replicas;
    world->changed_why = decision->reason;
}

static int set_up(void **state)
{
    struct world *world = xcalloc(1, sizeof *world);
    static const char *const names[FUNCTIONS] = {"a", "b", "c"};
    for (int i = 0; i < FUNCTIONS; i++) {
        world->names[i] = world->ids[i] = names[i];
        world->is_there[i] = true;
        world->loads[i] = (struct autoscaler_load){.quiet_ms = 1000000, .any = true, .complete = true};
    }
    world->now_ms = 1000000;
    world->metrics = metrics_new();
    struct scaler_platform platform = {.read_gateways = read_gateways,
                                       .load = read_load,
                                       .each = each,
                                       .write = write_replicas,
                                       .wrote = wrote,
                                       .arg = world};
    world->scaler = scaler_new(&platform, world->metrics);
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;
    scaler_free(world->scaler);
    metrics_free(world->metrics);
    free(world->told_in_write);
    free(world);
    return 0;
}

/* -1: there is no such line. */
static double counted(struct world *world, const char *line)
{
    CLEANUP_STRBUF struct strbuf text;
    strbuf_init(&text, METRICS_TEXT_MAX_BYTES);
    assert_int_equal(metrics_render(world->metrics, &text), 0);
    const char *at = strstr(text.buf, line);
    return at ? strtod(at + strlen(line), NULL) : -1;
}

static void test_sleeping_functions_cost_nothing(void **state)
{
    struct world *world = *state;
    scaler_pass(world->scaler);
    assert_int_equal(world->reads, 1);
    assert_int_equal(world->loads_read, 0);
    assert_int_equal(world->writes, 0);
}

static void test_each_is_scaled_by_its_own_load(void **state)
{
    struct world *world = *state;
    world->replicas[0] = world->replicas[1] = 1;
    world->min_replicas[2] = 2;
    world->loads[0] = (struct autoscaler_load){.mean = 35, .in_flight = 35, .any = true, .complete = true};
    world->loads[1] = (struct autoscaler_load){.mean = 3, .in_flight = 3, .any = true, .complete = true};
    scaler_pass(world->scaler);
    assert_int_equal(world->replicas[0], 4);
    assert_int_equal(world->replicas[1], 1);
    assert_int_equal(world->replicas[2], 2);
    assert_true(counted(world, "cicada_autoscaler_changes_total{direction=\"up\"} ") == 2);
}

static void test_quiet_functions_go_to_sleep_after_their_time(void **state)
{
    struct world *world = *state;
    world->replicas[0] = 1;
    int passes = 0;
    while (world->replicas[0] > 0 && passes < 30) {
        scaler_pass(world->scaler);
        passes++;
    }
    assert_int_equal(passes, 11); /* the first sight of its replicas counts as activity */
    assert_true(counted(world, "cicada_autoscaler_changes_total{direction=\"zero\"} ") == 1);
}

/* A history that was forgotten begins anew: the quiet time before does not count. */
static void test_what_is_gone_is_forgotten(void **state)
{
    struct world *world = *state;
    world->replicas[0] = 1;
    for (int i = 0; i < 8; i++) {
        scaler_pass(world->scaler);
    }
    world->is_there[0] = false;
    scaler_pass(world->scaler);
    world->is_there[0] = true;
    for (int i = 0; i < 8; i++) {
        scaler_pass(world->scaler);
    }
    assert_int_equal(world->replicas[0], 1);
}

static void test_a_failed_write_is_counted_unless_somebody_was_faster(void **state)
{
    struct world *world = *state;
    world->min_replicas[0] = 1;
    world->failure = ERR_UNAVAILABLE;
    scaler_pass(world->scaler);
    world->failure = ERR_CONFLICT;
    scaler_pass(world->scaler);
    assert_int_equal(world->writes, 2);
    assert_int_equal(world->replicas[0], 0);
    assert_true(counted(world, "\ncicada_autoscaler_failures_total ") == 1);
    world->failure = ERR_NONE;
    scaler_pass(world->scaler);
    assert_int_equal(world->replicas[0], 1);
}

static void test_unread_gateways_are_shown(void **state)
{
    struct world *world = *state;
    world->unread = 2;
    scaler_pass(world->scaler);
    assert_true(counted(world, "\ncicada_autoscaler_unread_gateways ") == 2);
}

#define OF_A "{namespace=\"shop\",function=\"a\"} "

static void expect_told(struct world *world, int replicas, const char *text)
{
    CLEANUP_FREE char *told = scaler_told(world->scaler, "a", replicas);
    if (!told || !text) {
        assert_ptr_equal(told, text);
        return;
    }
    assert_string_equal(told, text);
}

static void test_a_change_is_explained(void **state)
{
    static const char *const why =
        "4 replicas: the load rose suddenly (load 35.0 over 60 s, 35.0 over 6 s; target 10.0 for each)";
    struct world *world = *state;
    world->replicas[0] = 2;
    world->loads[0] = (struct autoscaler_load){.mean = 35, .in_flight = 35, .any = true, .complete = true};
    world->failure = ERR_UNAVAILABLE;
    scaler_pass(world->scaler);
    assert_string_equal(world->told_in_write, why); /* whoever sees the change can ask for its reason */
    expect_told(world, 4, NULL);
    assert_int_equal(world->changes, 0);

    world->failure = ERR_NONE;
    scaler_pass(world->scaler);
    assert_int_equal(world->changes, 1);
    assert_int_equal(world->changed_from, 2);
    assert_int_equal(world->changed_to, 4);
    assert_int_equal(world->changed_why, AUTOSCALER_PANIC);
    expect_told(world, 4, why);
    expect_told(world, 3, NULL); /* somebody else's */
    world->loads[0].mean = 100;
    world->failure = ERR_CONFLICT;
    scaler_pass(world->scaler);
    assert_non_null(strstr(world->told_in_write, "5 replicas: the most (scaling.maxReplicas) (load "));
    expect_told(world, 4, why); /* as before */
    /* Somebody changed the Deployment since, and changed it back. */
    world->replicas[0] = 5;
    world->generation = 2;
    scaler_pass(world->scaler);
    expect_told(world, 4, NULL);
    world->is_there[0] = false;
    scaler_pass(world->scaler);
    expect_told(world, 4, NULL);
}

static void test_what_is_decided_is_shown_while_it_is_awake(void **state)
{
    struct world *world = *state;
    scaler_pass(world->scaler);
    assert_true(counted(world, "cicada_autoscaler_desired_replicas" OF_A) == -1);
    world->replicas[0] = 1;
    world->loads[0] = (struct autoscaler_load){.mean = 35, .in_flight = 35, .any = true, .complete = true};
    scaler_pass(world->scaler);
    assert_true(counted(world, "cicada_autoscaler_desired_replicas" OF_A) == 4);
    assert_true(counted(world, "cicada_autoscaler_stable_load" OF_A) == 35);
    assert_true(counted(world, "cicada_autoscaler_panic_load" OF_A) == 35);
    assert_true(counted(world, "cicada_autoscaler_target_load" OF_A) == 10);
    assert_true(counted(world, "cicada_autoscaler_panicking" OF_A) == 1);
    world->replicas[0] = 0;
    scaler_pass(world->scaler);
    assert_true(counted(world, "cicada_autoscaler_desired_replicas" OF_A) == -1);
    assert_true(counted(world, "cicada_autoscaler_panicking" OF_A) == -1);
}

/* One that was made anew under its name has the metrics of the one before, which go with that. */
static void test_a_namesake_keeps_no_dead_metrics(void **state)
{
    struct world *world = *state;
    world->replicas[0] = 2;
    scaler_pass(world->scaler);
    world->ids[0] = "another";
    scaler_pass(world->scaler);
    scaler_pass(world->scaler);
    assert_true(counted(world, "cicada_autoscaler_desired_replicas" OF_A) >= 1);
}

#define UNIT(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(test_sleeping_functions_cost_nothing),
        UNIT(test_each_is_scaled_by_its_own_load),
        UNIT(test_quiet_functions_go_to_sleep_after_their_time),
        UNIT(test_what_is_gone_is_forgotten),
        UNIT(test_a_failed_write_is_counted_unless_somebody_was_faster),
        UNIT(test_unread_gateways_are_shown),
        UNIT(test_a_change_is_explained),
        UNIT(test_what_is_decided_is_shown_while_it_is_awake),
        UNIT(test_a_namesake_keeps_no_dead_metrics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
