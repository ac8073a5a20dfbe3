/* The shop's handlers in the real runtime against a real PostgreSQL. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/tests/support_runtime.h"

struct shop {
    struct runtime_process orders, payments;
};

static void run_file(const char *name)
{
    CLEANUP_FREE char *path = xasprintf("%s/functions/shop/%s", getenv("CICADA_TEST_ROOT"), name);
    CLEANUP_FREE char *sql = runtime_process_read(path);

    assert_int_not_equal(strlen(sql), 0);
    free(database_value(sql));
}

static void expect_sql(const char *sql, const char *expected)
{
    CLEANUP_FREE char *value = database_value(sql);
    assert_string_equal(value, expected);
}

static int setup(void **state)
{
    struct shop *shop = xcalloc(1, sizeof(*shop));
    struct runtime_process_settings settings = {
        .functions = "functions",
        .database_url = getenv("TEST_DATABASE_URL"),
        .spec = "{\"handler\":\"shop.so:handle_user_request\",\"concurrency\":16,"
                "\"database\":{\"poolSize\":4,\"isolation\":\"ReadCommitted\"}}",
        .env = {"CICADA_FUNCTION_NAME=create-order", "CICADA_FUNCTION_NAMESPACE=shop"},
    };

    free(database_value("DROP TABLE IF EXISTS public.orders, public.products, public.users CASCADE"));
    run_file("schema.sql");
    run_file("schema.sql"); /* twice: it changes nothing the second time */
    run_file("seed.sql");
    run_file("seed.sql");
    runtime_process_start(&shop->orders, &settings, /* serving= */ true);
    settings.spec = "{\"handler\":\"shop.so:handle_order_payment\",\"database\":{}}";
    runtime_process_start(&shop->payments, &settings, /* serving= */ true);
    *state = shop;
    return 0;
}

static int teardown(void **state)
{
    struct shop *shop = *state;

    runtime_process_release(&shop->orders);
    runtime_process_release(&shop->payments);
    free(database_value("DROP TABLE IF EXISTS public.orders, public.products, public.users CASCADE"));
    free(shop);
    return 0;
}

static void test_order_is_a_row(void **state)
{
    struct shop *shop = *state;

    http_expect(
        shop->orders.port, "POST", "/", "{\"user_id\":1,\"product_id\":1,\"quantity\":2}", 201,
        "{\"id\":1,\"user_id\":1,\"product_id\":1,\"quantity\":2,\"total\":49.98,\"status\":\"pending\"}");
    expect_sql(
        "SELECT concat_ws(' ', user_id, product_id, quantity, total, status) FROM public.orders WHERE id = 1",
        "1 1 2 49.98 pending");
    expect_sql("SELECT stock FROM public.products WHERE id = 1", "99998");
}

static void test_refused_orders_leave_nothing(void **state)
{
    static const struct {
        const char *body;
        int status;
        const char *code;
    } cases[] = {
        {"{\"user_id\":1,\"product_id\":3,\"quantity\":4}", 409, "\"code\":\"out_of_stock\""},
        {"{\"user_id\":1,\"product_id\":3,\"quantity\":9223372036854775807}", 409,
         "\"code\":\"out_of_stock\""},
        {"{\"user_id\":1,\"product_id\":77,\"quantity\":1}", 404, "\"code\":\"unknown_product\""},
        {"{\"user_id\":77,\"product_id\":3,\"quantity\":1}", 404, "\"code\":\"unknown_user\""},
        {"{\"user_id\":1,\"product_id\":3,\"quantity\":0}", 422, "\"code\":\"invalid_field\""},
        {"{\"user_id\":1,\"product_id\":3,\"quantity\":-1}", 422, "\"code\":\"invalid_field\""},
        {"{\"user_id\":1,\"product_id\":3,\"quantity\":1.5}", 422, "\"code\":\"invalid_field\""},
        {"{\"user_id\":1,\"product_id\":3,\"quantity\":\"1\"}", 422, "\"code\":\"invalid_field\""},
        {"{\"user_id\":1,\"product_id\":3,\"quantity\":null}", 422, "\"code\":\"invalid_field\""},
        {"{\"user_id\":1,\"product_id\":3,\"quantity\":9223372036854775808}", 422,
         "\"code\":\"invalid_field\""},
        {"{\"user_id\":1,\"product_id\":3}", 422, "\"code\":\"missing_field\""},
        {"{\"USER_ID\":1,\"product_id\":3,\"quantity\":1}", 422, "\"code\":\"missing_field\""},
        {"[1,3,1]", 400, "\"code\":\"not_an_object\""},
        {"", 400, "\"code\":\"not_an_object\""},
        {"{\"user_id\":1,", 400, "\"code\":\"malformed_json\""},
        {"{\"user_id\":1,\"user_id\":1,\"product_id\":3,\"quantity\":1}", 400, "\"code\":\"malformed_json\""},
        {"{\"user_id\":1,\"product_id\":3,\"quantity\":1} x", 400, "\"code\":\"malformed_json\""},
        {"\xff", 400, "\"code\":\"malformed_json\""},
    };
    struct shop *shop = *state;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        http_expect(shop->orders.port, "POST", "/", cases[i].body, cases[i].status, cases[i].code);
        http_expect(shop->orders.port, "POST", "/", cases[i].body, cases[i].status,
                    "application/problem+json");
    }
    expect_sql("SELECT count(*) FROM public.orders WHERE product_id <> 1", "0");
    expect_sql("SELECT stock FROM public.products WHERE id = 3", "3");
}

static void test_last_piece_is_sold_once(void **state)
{
    struct shop *shop = *state;
    struct http_call calls[12];
    int created = 0;

    for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
        http_call_start(&calls[i], shop->orders.port, "POST", "/",
                        "{\"user_id\":2,\"product_id\":3,\"quantity\":1}");
    for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
        http_call_join(&calls[i]);
        created += calls[i].answer.status == 201;
        assert_true(calls[i].answer.status == 201 || calls[i].answer.status == 409);
        http_answer_release(&calls[i].answer);
    }
    assert_int_equal(created, 3);
    expect_sql("SELECT count(*) FROM public.orders WHERE product_id = 3", "3");
    expect_sql("SELECT stock FROM public.products WHERE id = 3", "0");
}

/* A new order's id, as text; the caller frees it. */
static char *order_two_cups(struct shop *shop)
{
    http_expect(shop->orders.port, "POST", "/", "{\"user_id\":1,\"product_id\":2,\"quantity\":2}", 201,
                "pending");
    return database_value("SELECT max(id) FROM public.orders");
}

static void settle(struct shop *shop, const char *id, const char *payment, int status, const char *text)
{
    CLEANUP_FREE char *body = xasprintf("{\"order_id\":%s,\"payment_status\":\"%s\"}", id, payment);
    http_expect(shop->payments.port, "POST", "/", body, status, text);
}

static void test_payment_settles_once(void **state)
{
    struct shop *shop = *state;
    CLEANUP_FREE char *id = order_two_cups(shop);
    CLEANUP_FREE char *status_sql = xasprintf("SELECT status FROM public.orders WHERE id = %s", id);

    settle(shop, id, "paid", 200, "\"status\":\"paid\"");
    settle(shop, id, "paid", 409, "\"code\":\"already_settled\"");
    settle(shop, id, "failed", 409, "\"code\":\"already_settled\"");
    expect_sql(status_sql, "paid");
    expect_sql("SELECT stock FROM public.products WHERE id = 2", "99998");
}

static void test_failed_payment_restores_stock(void **state)
{
    struct shop *shop = *state;
    CLEANUP_FREE char *before = database_value("SELECT stock FROM public.products WHERE id = 2");
    CLEANUP_FREE char *id = order_two_cups(shop);

    settle(shop, id, "failed", 200, "\"status\":\"failed\"");
    settle(shop, id, "failed", 409, "\"code\":\"already_settled\"");
    expect_sql("SELECT stock FROM public.products WHERE id = 2", before);
}

static void test_refused_payments(void **state)
{
    struct shop *shop = *state;

    settle(shop, "4711", "paid", 404, "\"code\":\"unknown_order\"");
    settle(shop, "1", "later", 422, "\"code\":\"invalid_field\"");
    settle(shop, "0", "paid", 422, "\"code\":\"invalid_field\"");
    http_expect(shop->payments.port, "POST", "/", "{\"order_id\":1}", 422, "payment_status");
    http_expect(shop->payments.port, "POST", "/", "{\"payment_status\":\"paid\"}", 422,
                "order_id is required");
    http_expect(shop->payments.port, "POST", "/", "7", 400, "\"code\":\"not_an_object\"");
    expect_sql("SELECT status FROM public.orders WHERE id = 1", "pending");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_is_a_row),
        cmocka_unit_test(test_refused_orders_leave_nothing),
        cmocka_unit_test(test_last_piece_is_sold_once),
        cmocka_unit_test(test_payment_settles_once),
        cmocka_unit_test(test_failed_payment_restores_stock),
        cmocka_unit_test(test_refused_payments),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
