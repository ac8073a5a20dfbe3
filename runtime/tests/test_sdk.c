/* The SDK's header: as strict C11 and as C++, without a library to link, and with a table of the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/sdk/cicada/function.h"
#include "runtime/tests/support_runtime.h"

static const char source[] =
    "#include <cicada/function.h>\n"
    "static int start(struct cicada_context *ctx, void **ret_state)\n"
    "{\n"
    "    cicada_log(ctx, CICADA_LOG_INFO, \"%s\", cicada_function_name(ctx));\n"
    "    *ret_state = NULL;\n"
    "    return CICADA_OK;\n"
    "}\n"
    "static int first(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)\n"
    "{\n"
    "    struct cicada_result *row;\n"
    "    if (cicada_query(ctx, \"SELECT $1\", CICADA_PARAMS(cicada_text(cicada_request_path(req))), &row))\n"
    "        return CICADA_FAIL;\n"
    "    if (cicada_event_attempt(ctx) > 1 || cicada_event_type(ctx) == NULL)\n"
    "        return CICADA_FAIL;\n"
    "    if (cicada_execute(ctx, \"SELECT 1\", CICADA_NO_PARAMS))\n"
    "        return cicada_problem(res, 503, \"no_luck\", \"%s\", cicada_error_message(ctx));\n"
    "    cicada_write_row(res, NULL, row, 0);\n"
    "    return CICADA_OK;\n"
    "}\n"
    "static int second(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)\n"
    "{\n"
    "    return first(req, ctx, res);\n"
    "}\n"
    "static int each(void *arg, const struct cicada_result *row)\n"
    "{\n"
    "    return cicada_stream_write((struct cicada_response *)arg, cicada_result_get(row, 0, \"a\"), 1);\n"
    "}\n"
    "static int third(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)\n"
    "{\n"
    "    (void)req;\n"
    "    cicada_response_body_take(res, NULL, 0, NULL);\n"
    "    if (cicada_savepoint(ctx) || cicada_savepoint_rollback(ctx) || cicada_savepoint_release(ctx))\n"
    "        return CICADA_FAIL;\n"
    "    if (cicada_query_each(ctx, \"SELECT 1 AS a\", CICADA_NO_PARAMS, each, res))\n"
    "        return CICADA_FAIL;\n"
    "    return cicada_commit(ctx);\n"
    "}\n"
    "CICADA_FUNCTION(first);\n"
    "CICADA_FUNCTION(second, .init = start);\n"
    "CICADA_FUNCTION(third, .init = start, .flags = CICADA_READ_ONLY);\n";

/* Compiles the source above and lists what the shared object defines (T, D, R) and needs (U); the caller frees it. */
static char *symbols_of(const char *compiler, const char *suffix)
{
    char directory[] = "/tmp/cicada-sdk-test.XXXXXX";
    CLEANUP_FREE char *command = NULL;
    char *output;
    FILE *pipe;
    size_t len;

    assert_non_null(mkdtemp(directory));
    command = xasprintf(
        "cat >%1$s/f.%2$s && %3$s -Wall -Wextra -Wpedantic -Werror -fPIC -shared -fvisibility=hidden"
        " -I%4$s/runtime/sdk -o %1$s/f.so %1$s/f.%2$s >%1$s/out 2>&1;"
        " nm -D %1$s/f.so >>%1$s/out 2>&1",
        directory, suffix, compiler, getenv("CICADA_TEST_ROOT"));
    pipe = popen(command, "w");
    fputs(source, pipe);
    pclose(pipe);
    free(command);
    command = xasprintf("%s/out", directory);
    output = runtime_process_read(command);
    len = strlen(output);
    free(command);
    command = xasprintf("rm -rf %s", directory);
    assert_int_equal(system(command), 0);
    assert_true(len > 0);
    return output;
}

static void expect_exports_and_no_needs(const char *symbols)
{
    if (strstr(symbols, " cicada_function_first\n") == NULL ||
        strstr(symbols, " cicada_function_second\n") == NULL ||
        strstr(symbols, " cicada_function_third\n") == NULL || strstr(symbols, "error") != NULL ||
        strstr(symbols, "warning") != NULL || strstr(symbols, "U cicada") != NULL)
        fail_msg("%s", symbols);
}

static void test_strict_c11(void **state)
{
    CLEANUP_FREE char *symbols = symbols_of("cc -std=c11 -Wmissing-prototypes -Wcast-qual -Wshadow", "c");

    (void)state;
    expect_exports_and_no_needs(symbols);
}

static void test_cplusplus(void **state)
{
    CLEANUP_FREE char *symbols = NULL;

    (void)state;
    if (system("c++ --version >/dev/null 2>&1") != 0)
        skip();
    symbols = symbols_of("c++ -std=c++20", "cc");
    expect_exports_and_no_needs(symbols);
}

/* A handler under test needs no server: the test brings the table. */
struct fake {
    const struct cicada_calls *calls; /* first, as in every opaque type */
    char text[1024];
};

static const char *fake_header(const struct cicada_request *req, const char *name)
{
    (void)req;
    return strcmp(name, "Authorization") == 0 ? "secret" : NULL;
}

static void fake_problem(struct cicada_response *res, int32_t status, const char *code, const char *detail)
{
    struct fake *fake = (struct fake *)(void *)res;
    snprintf(fake->text, sizeof(fake->text), "%d %s %s", (int)status, code, detail);
}

static void fake_log(struct cicada_context *ctx, int32_t level, const char *text)
{
    struct fake *fake = (struct fake *)(void *)ctx;
    snprintf(fake->text, sizeof(fake->text), "%d %s", (int)level, text);
}

static const char *fake_attribute(const struct cicada_context *ctx, const char *name)
{
    assert_string_equal(name, "cicadaattempt");
    return ((const struct fake *)(const void *)ctx)->text;
}

static void test_attempts(void **state)
{
    static const struct {
        const char *text;
        int attempt;
    } cases[] = {{"1", 1},
                 {"20", 20},
                 {"007", 7},
                 {"", 0},
                 {"-1", 0},
                 {"+1", 0},
                 {"1 ", 0},
                 {"x", 0},
                 {"999999999", 999999999},
                 {"1000000000", 0},
                 {"99999999999999999999", 0}};
    const struct cicada_calls calls = {.event_attribute = fake_attribute};
    struct fake object = {.calls = &calls};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        snprintf(object.text, sizeof(object.text), "%s", cases[i].text);
        assert_int_equal(cicada_event_attempt((struct cicada_context *)(void *)&object), cases[i].attempt);
    }
}

static void test_a_table_of_ones_own(void **state)
{
    const struct cicada_calls calls = {
        .version = CICADA_ABI_VERSION,
        .size = sizeof(calls),
        .request_header = fake_header,
        .response_problem = fake_problem,
        .context_log = fake_log,
    };
    struct fake object = {.calls = &calls};
    struct cicada_json absent = {&calls, NULL};
    CLEANUP_FREE char *large = xcalloc(1, 5000);

    (void)state;
    assert_string_equal(cicada_request_header((struct cicada_request *)(void *)&object, "Authorization"),
                        "secret");
    assert_int_equal(
        cicada_problem((struct cicada_response *)(void *)&object, 422, "bad", "%d of %s", 3, "x"),
        CICADA_FAIL);
    assert_string_equal(object.text, "422 bad 3 of x");
    memset(large, 'a', 4999);
    cicada_log((struct cicada_context *)(void *)&object, CICADA_LOG_WARN, "%s", large); /* cut, not overrun */
    assert_int_equal(strlen(object.text), 1023);
    assert_int_equal(cicada_json_type(cicada_json_member(cicada_json_first(absent), "x")),
                     CICADA_JSON_ABSENT);
    assert_int_equal(cicada_json_count(absent), 0);
}

/* What functions in the field were built with must not move. */
static void test_layout(void **state)
{
    (void)state;
    assert_int_equal(offsetof(struct cicada_calls, version), 0);
    assert_int_equal(offsetof(struct cicada_calls, size), 4);
    assert_int_equal(offsetof(struct cicada_calls, request_method), 8);
    assert_int_equal(offsetof(struct cicada_calls, query), 8 + 27 * 8);
    assert_int_equal(offsetof(struct cicada_calls, write_row), 400);
    assert_int_equal(offsetof(struct cicada_calls, savepoint),
                     408); /* the first release had a table up to here */
    assert_int_equal(offsetof(struct cicada_calls, stream_write), 456);
    assert_int_equal(offsetof(struct cicada_calls, event_attribute), 464);
    assert_int_equal(offsetof(struct cicada_calls, event_fail), sizeof(struct cicada_calls) - 8);
    assert_int_equal(sizeof(struct cicada_calls), 512);
    assert_int_equal(sizeof(struct cicada_param), 32);
    assert_int_equal(sizeof(struct cicada_json), 16);
    assert_int_equal(offsetof(struct cicada_function, flags), 48); /* ...and a description up to here */
    assert_int_equal(sizeof(struct cicada_function), 56);
    assert_int_equal(offsetof(struct cicada_function, handle), 24);
}

/* An enum's size is up to the compiler, and so are a bitfield's places; a library's types change with it. */
static void test_what_is_not_in_the_abi(void **state)
{
    CLEANUP_FREE char *path = xasprintf("%s/runtime/sdk/cicada/function.h", getenv("CICADA_TEST_ROOT"));
    CLEANUP_FREE char *header = runtime_process_read(path);
    CLEANUP_FREE char *command =
        xasprintf("grep -qE '^ +[a-z0-9_]+ [a-z_]+ *: *[0-9]+;' %s", path); /* a bitfield */

    (void)state;
    assert_true(strlen(header) > 10000);
    assert_null(strstr(header, "\nenum "));
    assert_null(strstr(header, "    enum "));
    assert_null(strstr(header, "cJSON"));
    assert_int_not_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strict_c11),
        cmocka_unit_test(test_cplusplus),
        cmocka_unit_test(test_a_table_of_ones_own),
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_what_is_not_in_the_abi),
        cmocka_unit_test(test_attempts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
