/* functions/testing.sh: what its verbs accept and refuse, and how a test script ends. The calls go to a real runtime. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/tests/support_runtime.h"
#include "runtime/tests/support_shell.h"

#define SERVE ". \"$CICADA_TEST_ROOT/functions/testing.sh\"\nserve\n"

static int set_up(void **state)
{
    struct runtime_process *process = xcalloc(1, sizeof(*process));
    struct runtime_process_settings settings = {
        .functions = "functions",
        .database_url = getenv("TEST_DATABASE_URL"),
        .spec = "{\"sql\":\"SELECT :a::jsonb AS a, :_headers->>'content-type' AS type, :_headers->>'x-test' "
                "AS test\","
                "\"database\":{},\"http\":{\"successStatus\":201}}"};
    char directory[] = "/tmp/cicada-testing-test.XXXXXX";
    CLEANUP_FREE char *url = NULL;

    runtime_process_start(process, &settings, /* serving= */ true);
    url = xasprintf("http://127.0.0.1:%d", process->port);
    assert_int_equal(setenv("CICADA_URL", url, 1), 0);
    assert_int_equal(setenv("DATABASE_URL", settings.database_url, 1), 0);
    assert_non_null(mkdtemp(directory));
    assert_int_equal(setenv("TMPDIR", directory, 1), 0);
    *state = process;
    return 0;
}

static int tear_down(void **state)
{
    shell_expect("rm -rf \"$TMPDIR\"", "");
    runtime_process_release(*state);
    free(*state);
    return 0;
}

/* What the test script prints. It must leave nothing in TMPDIR; the caller frees the text. */
static char *run_script(const char *script, int *ret_exit_code)
{
    char *output;

    assert_int_equal(setenv("SCRIPT", script, 1), 0);
    output = shell_output(
        "printf '%s' \"$SCRIPT\" >\"$TMPDIR/test.sh\" && cd \"$TMPDIR\" && sh ./test.sh 2>&1", ret_exit_code);
    shell_expect("ls -d \"$TMPDIR\"/tmp.* 2>/dev/null || echo nothing", "nothing");
    return output;
}

static void expect_script(const char *script, int exit_code, const char *const texts[])
{
    int found_code;
    CLEANUP_FREE char *output = run_script(script, &found_code);

    if (found_code != exit_code)
        fail_msg("exit %d, expected %d; its end: %s", found_code, exit_code, shell_tail(output));
    for (size_t i = 0; texts[i] != NULL; i++) {
        if (strstr(output, texts[i]) == NULL)
            fail_msg("expected <%s>; its end: %s", texts[i], shell_tail(output));
    }
}

static void test_verbs_accept(void **state)
{
    static const char script[] =
        SERVE "check 'a call'\n"
              "call POST / '{\"a\":[1,{\"b\":\"it'\\''s \\\\ \"},null,2.50]}' 'X-Test: x y'\n"
              "expect_status 201\n"
              "expect_json '$[0].test' 'x y'\n"
              "expect_json '$.type' application/json\n"
              "expect_json '$.a[*].b' \"it's \\\\ \"\n"
              "expect_json '$.a[2]' null\n"
              "expect_json '$.a[3]' 2.50\n"
              "expect_json '$.a[0,3]' '1 2.50'\n"
              "expect_json '$.none' ''\n"
              "expect_json '$[*].a.size()' 4\n"
              "expect_header content-type application/json\n"
              "expect_header X-None ''\n"
              "check 'no body, another type'\n"
              "call GET '/?a=[1]'\n"
              "expect_body '[{\"a\":[1],\"type\":null,\"test\":null}]'\n"
              "call HEAD '/?a=1'\n"
              "expect_status 201\n"
              "expect_body ''\n"
              "call POST '/?a=1' '@text' 'content-type: application/x-www-form-urlencoded'\n"
              "expect_json '$.type' application/x-www-form-urlencoded\n"
              "check 'errors'\n"
              "call GET /\n"
              "expect_problem 400 missing_parameter\n"
              "check 'at the same time'\n"
              "call_parallel 3 GET '/?a=1'\n"
              "expect_statuses 201:3\n"
              "start GET /\n"
              "start GET '/?a=1'\n"
              "join\n"
              "expect_statuses '201:1 400:1'\n"
              "check 'rows'\n"
              "expect_row \"SELECT 1, 'x' UNION ALL SELECT 2, NULL\" '1|x\n2|'\n"
              "two=$(sql 'SELECT 2')\n"
              "expect_equal 2 \"$two\" two\n";

    (void)state;
    expect_script(script, 0, (const char *const[]){"ok    a call\n", "5 passed, 0 failed\n", NULL});
}

/* Each line is a check of its own, which must fail, and say why. */
static void test_verbs_refuse(void **state)
{
    static const struct {
        const char *line, *text;
    } cases[] = {
        {"expect_status 200", "GET /?a=1 : status: expected <200>, found <201> in [{\"a\":1,"},
        {"expect_problem 400 x", "$.code: expected <x>, found <>"},
        {"expect_header Content-Type text/html",
         "header Content-Type: expected <text/html>, found <application/json>"},
        {"expect_header Content-Type ''", "header Content-Type: expected <>, found <application/json>"},
        {"expect_json '$.a' 2", "$.a: expected <2>, found <1> in [{\"a\":1,"},
        {"expect_json '$.a[' 1", "syntax error"},
        {"call GET '/?a=1' '' 'Accept: text/csv'; expect_json '$.a' 1", "no JSON: a,type,test"},
        {"expect_body x", "body: expected <x>, found <[{\"a\":1,"},
        {"call_parallel 2 GET '/?a=1'; expect_statuses 200:2", "statuses: expected <200:2>, found <201:2>"},
        {"expect_row 'SELECT 1' 2", "SELECT 1: expected <2>, found <1>"},
        {"expect_row 'SELECT FROM' ''", "failed: SELECT FROM"},
        {"x=$(sql 'SELECT 1/0')", "division by zero"},
        {"CICADA_URL=http://127.0.0.1:1 call GET /away; expect_body ''", "GET /away : no answer"},
        {"CICADA_URL=http://127.0.0.1:1 call_parallel 2 GET /away", "GET /away : no answer"},
        {"fail 'why'", "      why\n"},
    };
    CLEANUP_FREE char *script = xstrdup(SERVE);
    const char *texts[ARRAY_SIZE(cases) + 2] = {NULL};
    CLEANUP_FREE char *total = xasprintf("0 passed, %zu failed\n", ARRAY_SIZE(cases));

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char *more = xasprintf("%scheck %zu\ncall GET '/?a=1'\n%s\n", script, i, cases[i].line);

        free(script);
        script = more;
        texts[i] = cases[i].text;
    }
    texts[ARRAY_SIZE(cases)] = total;
    expect_script(script, 1, texts);
}

static void test_how_a_script_ends(void **state)
{
    (void)state;
    expect_script(SERVE "check one\ncheck two\nexit 3\n", 1,
                  (const char *const[]){"ok    one", "FAIL  two\n      the script ended here, with 3",
                                        "1 passed, 1 failed\n", NULL});
    expect_script(SERVE "check one\necho $unset\n", 1,
                  (const char *const[]){"FAIL  one", "0 passed, 1 failed\n", NULL});
    expect_script(SERVE "", 1, (const char *const[]){"0 passed, 0 failed\n", NULL});
    expect_script(SERVE "sql 'SELECT 1/0'\ncheck 'what was prepared'\n", 1,
                  (const char *const[]){"FAIL  what was prepared\n", "failed: SELECT 1/0", NULL});
    expect_script("unset CICADA_URL\n. \"$CICADA_TEST_ROOT/functions/testing.sh\"\nPATH=/nowhere\nserve\n", 2,
                  (const char *const[]){"no cicada-local in PATH", NULL});
}

/* The half that starts cicada-local: its arguments, what becomes of its exit status, signals and folder. */
static void test_a_server_of_its_own(void **state)
{
    static const char fake[] = "unset CICADA_URL; mkdir -p bin; cat >bin/cicada-local <<'EOF'\n"
                               "#!/bin/sh\n"
                               "echo \"${DATABASE_URL-no} database, args $*\" >&2\n"
                               "mkdir \"$2\"\n"
                               "exit ${FAKE_STATUS:-7}\n"
                               "EOF\n"
                               "chmod +x bin/cicada-local; PATH=$PWD/bin:$PATH\n"
                               ". \"$CICADA_TEST_ROOT/functions/testing.sh\"\n";
    CLEANUP_FREE char *failing = xasprintf("%sserve --init-sql 'a b.sql' manifests\n", fake);
    CLEANUP_FREE char *passing =
        xasprintf("FAKE_STATUS=0; export FAKE_STATUS\n%sserve x\necho 'not reached'\n", fake);
    int exit_code;
    CLEANUP_FREE char *output = run_script(passing, &exit_code);

    (void)state;
    assert_int_equal(exit_code, 0);
    assert_string_equal(output, "");
    expect_script(failing, 1,
                  (const char *const[]){"(without level info):\nno database, args --state-dir ",
                                        "/state --listen 127.0.0.1:0 --exec TMPDIR=$CICADA_TEST_FOLDER exec "
                                        "\"$CICADA_TEST_SCRIPT\" --init-sql a b.sql manifests\n",
                                        NULL});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verbs_accept),
        cmocka_unit_test(test_verbs_refuse),
        cmocka_unit_test(test_how_a_script_ends),
        cmocka_unit_test(test_a_server_of_its_own),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
