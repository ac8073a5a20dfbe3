/* Routes: which function a listener, a host and a path lead to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "operator/gateway/function_state.h"
#include "operator/gateway/route.h"
#include "operator/tests/support_gateway.h"
#include "runtime/base/mem.h"

struct given {
    const char *namespace, *name;
    int created_s;
    const char *http; /* members of spec */
};

/* The youngest come first on purpose: age must not depend on the order. */
static const struct given functions[] = {
    {"evil", "grab", 50,
     "\"http\":{\"hosts\":[\"shop.example.com\",\"echo.shop.fn.test\",\"grab.example.com\"],\"path\":\"/\"}"},
    {"shop", "orders", 10, "\"http\":{\"hosts\":[\"shop.example.com\"],\"path\":\"/orders\"}"},
    {"shop", "home", 20, "\"http\":{\"hosts\":[\"shop.example.com\",\"*.shop.example.com\"]}"},
    {"shop", "items", 30, "\"http\":{\"hosts\":[\"shop.example.com\"],\"path\":\"/orders/items\"}"},
    {"shop", "twin", 40, "\"http\":{\"hosts\":[\"shop.example.com\"],\"path\":\"/orders\"}"},
    {"shop", "echo", 5, "\"http\":{}"},
    {"shop", "secret", 5, ""},
    {"other", "api", 5, "\"http\":{\"hosts\":[\"api.example.com\"],\"path\":\"/v1\"}"},
    {"com", "example", 5, "\"http\":{}"},
};

static struct route_table *make_table(void)
{
    struct route_function entries[ARRAY_SIZE(functions)];
    for (size_t i = 0; i < ARRAY_SIZE(functions); i++) {
        entries[i].function = function_state_new(functions[i].namespace, functions[i].name);
        entries[i].spec =
            test_spec(functions[i].namespace, functions[i].name, functions[i].created_s, functions[i].http);
    }
    struct route_table *table = route_table_new(entries, ARRAY_SIZE(entries), "fn.test", "cluster.local");
    for (size_t i = 0; i < ARRAY_SIZE(functions); i++) {
        function_state_unref(entries[i].function);
        function_spec_unref(entries[i].spec);
    }
    return table;
}

struct route_case {
    bool internal;
    const char *host, *target;
    const char *function; /* "namespace/name", or NULL */
    const char *prefix, *rest;
    enum route_result result;
};

static const struct route_case cases[] = {
    /* hosts and the longest path by elements */
    {false, "shop.example.com", "/", "shop/home", "", "/", ROUTE_FOUND},
    {false, "shop.example.com", "/orders", "shop/orders", "/orders", "", ROUTE_FOUND},
    {false, "shop.example.com", "/orders/", "shop/orders", "/orders", "/", ROUTE_FOUND},
    {false, "shop.example.com", "/orders?x=/orders/items", "shop/orders", "/orders", "?x=/orders/items",
     ROUTE_FOUND},
    {false, "shop.example.com", "/orders/17", "shop/orders", "/orders", "/17", ROUTE_FOUND},
    {false, "shop.example.com", "/orders/items/3", "shop/items", "/orders/items", "/3", ROUTE_FOUND},
    {false, "shop.example.com", "/orders/items2", "shop/orders", "/orders", "/items2", ROUTE_FOUND},
    {false, "shop.example.com", "/ordersx", "shop/home", "", "/ordersx", ROUTE_FOUND},
    {false, "shop.example.com", "/Orders", "shop/home", "", "/Orders", ROUTE_FOUND},
    {false, "shop.example.com", "?x", "shop/home", "", "?x", ROUTE_FOUND},
    {false, "api.example.com", "/v1/x", "other/api", "/v1", "/x", ROUTE_FOUND},
    {false, "api.example.com", "/v2", NULL, "", "", ROUTE_NONE},
    /* a claimed host is nobody else's, not even /fn/'s */
    {false, "api.example.com", "/fn/shop/echo", NULL, "", "", ROUTE_NONE},
    /* the oldest function's namespace owns the host */
    {false, "grab.example.com", "/", "evil/grab", "", "/", ROUTE_FOUND},
    {false, "echo.shop.fn.test", "/", "shop/echo", "", "/", ROUTE_FOUND},
    /* case, port, final dot */
    {false, "SHOP.Example.COM:8080", "/", "shop/home", "", "/", ROUTE_FOUND},
    {false, "shop.example.com.", "/", "shop/home", "", "/", ROUTE_FOUND},
    {false, "shop.example.com.:80", "/", "shop/home", "", "/", ROUTE_FOUND},
    /* wildcards stand for one label */
    {false, "eu.shop.example.com", "/x", "shop/home", "", "/x", ROUTE_FOUND},
    {false, "a.eu.shop.example.com", "/x", NULL, "", "", ROUTE_NONE},
    {false, ".shop.example.com", "/x", NULL, "", "", ROUTE_NONE},
    /* <name>.<namespace>.<domain> */
    {false, "echo.shop.fn.test", "/a?b", "shop/echo", "", "/a?b", ROUTE_FOUND},
    {false, "secret.shop.fn.test", "/", NULL, "", "", ROUTE_NONE},
    {false, "nobody.shop.fn.test", "/", NULL, "", "", ROUTE_NONE},
    {false, "x.echo.shop.fn.test", "/", NULL, "", "", ROUTE_NONE},
    {false, "orders.shop.fn.test", "/17", "shop/orders", "", "/17", ROUTE_FOUND},
    /* /fn/ on a host that is nobody's */
    {false, "10.0.0.1", "/fn/shop/echo/a/b?c", "shop/echo", "/fn/shop/echo", "/a/b?c", ROUTE_FOUND},
    {false, "localhost:8080", "/fn/shop/echo", "shop/echo", "/fn/shop/echo", "", ROUTE_FOUND},
    {false, "localhost", "/fn/shop/echo?x", "shop/echo", "/fn/shop/echo", "?x", ROUTE_FOUND},
    {false, "localhost", "/fn/shop/secret", NULL, "", "", ROUTE_NONE},
    {false, "localhost", "/fn/shop", NULL, "", "", ROUTE_NONE},
    {false, "localhost", "/fn//echo", NULL, "", "", ROUTE_NONE},
    {false, "localhost", "/fn/shop/", NULL, "", "", ROUTE_NONE},
    {false, "localhost", "/fnx/shop/echo", NULL, "", "", ROUTE_NONE},
    {false, "localhost", "/", NULL, "", "", ROUTE_NONE},
    /* the public listener knows no internal names */
    {false, "echo.shop", "/", NULL, "", "", ROUTE_NONE},
    {false, "secret.shop.svc.cluster.local", "/", NULL, "", "", ROUTE_NONE},
    {false, "echo", "/", NULL, "", "", ROUTE_NONE},
    /* the internal one: every function, then the public rules */
    {true, "secret.shop", "/x", "shop/secret", "", "/x", ROUTE_FOUND},
    {true, "secret.shop.svc", "/x", "shop/secret", "", "/x", ROUTE_FOUND},
    {true, "secret.shop.svc.cluster.local:80", "/x", "shop/secret", "", "/x", ROUTE_FOUND},
    {true, "secret.shop.svc.cluster.local.", "/x", "shop/secret", "", "/x", ROUTE_FOUND},
    {true, "secret.shop.cluster.local", "/x", NULL, "", "", ROUTE_NONE},
    {true, "example.com", "/", "com/example", "", "/", ROUTE_FOUND},
    {true, "shop.example.com", "/", "shop/home", "", "/", ROUTE_FOUND},
    {true, "echo", "/", NULL, "", "", ROUTE_BARE_NAME},
    {true, "nobody.shop", "/", NULL, "", "", ROUTE_NONE},
    {true, "10.0.0.1", "/fn/shop/echo/x", "shop/echo", "/fn/shop/echo", "/x", ROUTE_FOUND},
    /* dot segments */
    {false, "shop.example.com", "/orders/../admin", NULL, "", "", ROUTE_BAD_PATH},
    {false, "shop.example.com", "/orders/%2e%2E/admin", NULL, "", "", ROUTE_BAD_PATH},
    {false, "shop.example.com", "/orders/.%2e", NULL, "", "", ROUTE_BAD_PATH},
    {false, "shop.example.com", "/./x", NULL, "", "", ROUTE_BAD_PATH},
    {false, "shop.example.com", "/.", NULL, "", "", ROUTE_BAD_PATH},
    {false, "shop.example.com", "/...", "shop/home", "", "/...", ROUTE_FOUND},
    {false, "shop.example.com", "/.well-known/x", "shop/home", "", "/.well-known/x", ROUTE_FOUND},
    {false, "shop.example.com", "/x?a=/../", "shop/home", "", "/x?a=/../", ROUTE_FOUND},
};

static void test_routes(void **state)
{
    (void)state;
    struct route_table *table = make_table();
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct route_case *route = &cases[i];
        struct route_match match = {0};
        struct h1_slice host = {route->host, strlen(route->host)},
                        target = {route->target, strlen(route->target)};
        enum route_result result = route_table_match(table, route->internal, host, target, &match);
        const char *found = result == ROUTE_FOUND ? match.function->key : NULL;
        if (result != route->result || (found && (!route->function || strcmp(found, route->function) != 0))) {
            fail_msg("case %zu, %s%s: %d %s", i, route->host, route->target, result,
                     found ? found : "nothing");
        }
        if (found) {
            assert_string_equal(match.spec->name, match.function->name);
            assert_int_equal(match.prefix.len, strlen(route->prefix));
            assert_memory_equal(match.prefix.at, route->prefix, match.prefix.len);
            assert_int_equal(match.rest.len, strlen(route->rest));
            assert_memory_equal(match.rest.at, route->rest, match.rest.len);
        }
    }
    route_table_unref(table);
}

static void test_empty_and_long(void **state)
{
    (void)state;
    struct route_table *table = route_table_new(NULL, 0, NULL, NULL);
    struct route_match match;
    char host[400];
    memset(host, 'a', sizeof(host));
    struct h1_slice long_host = {host, sizeof(host)}, target = {"/", 1}, name = {"f.shop", 6};
    assert_int_equal(route_table_match(table, true, long_host, target, &match), ROUTE_NONE);
    assert_int_equal(route_table_match(table, true, name, target, &match), ROUTE_NONE);
    route_table_unref(table);
    table = make_table();
    long_host.len = 200;
    assert_int_equal(route_table_match(table, true, long_host, target, &match), ROUTE_BARE_NAME);
    host[100] = '.';
    assert_int_equal(route_table_match(table, true, long_host, target, &match), ROUTE_NONE);
    route_table_unref(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_routes),
        cmocka_unit_test(test_empty_and_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
