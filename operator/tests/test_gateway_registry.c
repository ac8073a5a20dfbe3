/* The registry: what makes a new route table, what is forgotten and when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>

#include "operator/gateway/registry.h"
#include "operator/gateway/upstream_conn.h"
#include "operator/tests/support_gateway.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

struct counts {
    int adopted, abandoned, closed;
};

static void adopt(void *arg, struct function_state *function)
{
    struct counts *counts = arg;
    (void)function;
    counts->adopted++;
}

static void abandon(void *arg, struct function_state *function)
{
    struct counts *counts = arg;
    counts->abandoned++;
    function_state_unref(function);
}

static struct upstream_pool *make_pools(void *arg)
{
    (void)arg;
    return upstream_pools_new(1);
}

static void close_idle(void *arg, struct pod *pod)
{
    struct counts *counts = arg;
    (void)pod;
    counts->closed++;
}

static struct registry *make_registry(struct counts *counts)
{
    *counts = (struct counts){0};
    struct registry_ops ops = {.adopt = adopt,
                               .abandon = abandon,
                               .make_pools = make_pools,
                               .close_idle = close_idle,
                               .arg = counts};
    return registry_new("fn.test", "cluster.local", &ops);
}

static void set_function(struct registry *registry, const char *name, int64_t generation, const char *members)
{
    struct function_spec *spec = test_spec("shop", name, 0, members);
    spec->generation = generation; /* not shared with anybody yet */
    registry_set_function(registry, spec);
    function_spec_unref(spec);
}

static struct gateway_pod pod_news(const char *uid, enum gateway_pod_state state)
{
    struct gateway_pod pod = {
        .namespace = "shop", .function = "f", .name = uid, .uid = uid, .has_address = true, .state = state};
    pod.address = (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(8080), .sin_addr.s_addr = htonl(0x0A000001)};
    return pod;
}

static bool is_routed(struct registry *registry, const char *host)
{
    uint64_t version;
    struct route_match match;
    struct route_table *table = registry_routes(registry, &version);
    enum route_result result = route_table_match(table, true, (struct h1_slice){host, strlen(host)},
                                                 (struct h1_slice){"/", 1}, &match);
    route_table_unref(table);
    return result == ROUTE_FOUND;
}

static void test_tables_are_made_when_routes_change(void **state)
{
    (void)state;
    struct counts counts;
    struct registry *registry = make_registry(&counts);
    uint64_t version = registry_version(registry), again;
    set_function(registry, "f", 1, "\"http\":{}");
    assert_true(registry_version(registry) != version);
    version = registry_version(registry);
    set_function(registry, "f", 1,
                 "\"http\":{}"); /* a change of status: the generation says that the spec is the same */
    assert_int_equal(registry_version(registry), version);
    struct route_table *one = registry_routes(registry, &again), *two = registry_routes(registry, &again);
    assert_ptr_equal(one, two);
    assert_int_equal(again, version);
    assert_true(is_routed(registry, "f.shop"));
    set_function(registry, "f", 2, "");
    assert_true(registry_version(registry) != version);
    registry_remove_function(registry, "shop", "f");
    registry_remove_function(registry, "shop", "nobody");
    assert_false(is_routed(registry, "f.shop"));
    route_table_unref(one);
    route_table_unref(two);
    registry_free(registry);
    assert_int_equal(counts.adopted, 1);
    assert_int_equal(counts.abandoned, 1);
}

static void test_functions_are_forgotten_when_nothing_is_left_of_them(void **state)
{
    (void)state;
    struct counts counts;
    struct registry *registry = make_registry(&counts);
    struct gateway_pod pod = pod_news("uid-1", GATEWAY_POD_READY);
    registry_set_pod(registry, &pod); /* pods may come first */
    set_function(registry, "f", 1, "");
    assert_int_equal(counts.adopted, 1);
    registry_sweep(registry, 0);
    registry_remove_function(registry, "shop", "f");
    registry_sweep(registry, 0);
    assert_int_equal(counts.abandoned, 0); /* it has a pod */
    registry_remove_pod(registry, "uid-1");
    uint64_t version;
    struct route_table *table = registry_routes(registry, &version);
    route_table_unref(table);
    registry_sweep(registry, 0);
    assert_int_equal(counts.abandoned, 1);
    registry_set_blocked(registry, "shop", "f",
                         "QuotaExceeded"); /* the Deployment's status may come first, too */
    registry_set_blocked(registry, "shop", "other", NULL);
    assert_int_equal(counts.adopted, 2);
    registry_sweep(registry, 0);
    assert_int_equal(counts.abandoned, 2);
    registry_free(registry);
}

static void test_recent_figures_are_kept(void **state)
{
    (void)state;
    struct counts counts;
    struct registry *registry = make_registry(&counts);
    CLEANUP_STRBUF struct strbuf out;
    struct route_match match;
    uint64_t version;
    strbuf_init(&out, 4096);
    set_function(registry, "f", 1, "");
    struct route_table *table = registry_routes(registry, &version);
    assert_int_equal(
        route_table_match(table, true, (struct h1_slice){"f.shop", 6}, (struct h1_slice){"/", 1}, &match),
        ROUTE_FOUND);
    struct waiter waiter = {0};
    bool wake;
    assert_int_equal(function_admit(match.function, &waiter, false, &wake), ADMIT_QUEUED);
    assert_true(function_leave(match.function, &waiter));
    route_table_unref(table);
    registry_remove_function(registry, "shop", "f");
    route_table_unref(registry_routes(registry, &version));
    registry_sweep(registry, 3600000000);
    registry_statz(registry, clock_monotonic_us(), 3600000000, &out);
    assert_non_null(strstr(out.buf, "\"arrivals\":1"));
    set_function(registry, "f", 2, ""); /* made anew: the counters go on */
    strbuf_clear(&out);
    registry_statz(registry, clock_monotonic_us(), 3600000000, &out);
    assert_non_null(strstr(out.buf, "\"arrivals\":1"));
    assert_int_equal(counts.adopted, 1);
    registry_free(registry);
}

static void test_when_idle_connections_are_closed(void **state)
{
    (void)state;
    struct counts counts;
    struct registry *registry = make_registry(&counts);
    struct gateway_pod pod = pod_news("uid-1", GATEWAY_POD_READY);
    struct pod *ref;
    int in_flight;
    registry_set_pod(registry, &pod);
    counts.closed = 0;
    registry_set_pod(registry, &pod);
    assert_int_equal(counts.closed, 0);
    pod.address.sin_addr.s_addr = htonl(0x0A000002); /* another address */
    registry_set_pod(registry, &pod);
    assert_int_equal(counts.closed, 1);
    pod.state = GATEWAY_POD_TERMINATING;
    registry_set_pod(registry, &pod);
    assert_int_equal(counts.closed, 2);
    assert_false(registry_pod_goodbye(registry, "uid-2", &ref, &in_flight));
    assert_true(registry_pod_goodbye(registry, "uid-1", &ref, &in_flight)); /* the caller closes and waits */
    assert_int_equal(in_flight, 0);
    registry_remove_pod(registry, "uid-1");
    assert_int_equal(counts.closed, 3);
    registry_remove_pod(registry, "uid-1");
    pod_unref(ref);
    registry_free(registry);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables_are_made_when_routes_change),
        cmocka_unit_test(test_functions_are_forgotten_when_nothing_is_left_of_them),
        cmocka_unit_test(test_recent_figures_are_kept),
        cmocka_unit_test(test_when_idle_connections_are_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
