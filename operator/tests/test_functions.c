/* The functions' own tests, as their authors run them: `make test` in functions/shop and in copies of the templates, each on a cicada-local
 * and a PostgreSQL of its own, which leave nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/tests/support_shell.h"

#define MAKE                                                                                                 \
    "env -u MAKEFLAGS -u MODE make -s test BIN=$CICADA_TEST_BUILD/bin SDK=$CICADA_TEST_ROOT/runtime/sdk "    \
    "TESTING=$CICADA_TEST_ROOT/functions/testing.sh "

static int set_up(void **state)
{
    char directory[] = "/tmp/cicada-functions-test.XXXXXX";

    (void)state;
    assert_non_null(mkdtemp(directory));
    assert_int_equal(setenv("DIR", directory, 1), 0);
    /* As root the database runs as another user, who passes through. */
    shell_expect("chmod 711 $DIR && mkdir -m 711 $DIR/tmp && printf '%s' $DIR/tmp >$DIR/trace", "");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    shell_expect("rm -rf $DIR", "");
    return 0;
}

/* No file, and no process that has one of them in its command line. */
static void expect_nothing_left(void)
{
    shell_expect("ls -A $DIR/tmp | sed 's/^/left: /' | grep . || echo no file", "no file");
    shell_expect("cd $DIR && grep -lsFf trace /proc/[0-9]*/cmdline || echo no process", "no process");
}

static void expect_tests_pass(const char *command)
{
    shell_expect(command, " passed, 0 failed\n");
    expect_nothing_left();
}

static void test_shop(void **state)
{
    (void)state;
    expect_tests_pass("cd $CICADA_TEST_ROOT/functions/shop && TMPDIR=$DIR/tmp " MAKE
                      "OUT=$CICADA_TEST_BUILD/functions 2>&1");
}

static void test_templates(void **state)
{
    (void)state;
    shell_expect("cp -r $CICADA_TEST_ROOT/functions/template $DIR/template && cd $DIR/template && make clean",
                 "");
    expect_tests_pass("cd $DIR/template && TMPDIR=$DIR/tmp " MAKE "2>&1");
    shell_expect("cp -r $CICADA_TEST_ROOT/functions/template-sql $DIR/template-sql && cd $DIR/template-sql "
                 "&& make clean",
                 "");
    expect_tests_pass("cd $DIR/template-sql && TMPDIR=$DIR/tmp " MAKE "2>&1");
}

static void expect_tests_fail(const char *change, const char *text)
{
    CLEANUP_FREE char *command = xasprintf("cd $DIR/failing && %s && TMPDIR=$DIR/tmp " MAKE "2>&1", change);
    int exit_code;
    CLEANUP_FREE char *output = shell_output(command, &exit_code);

    if (exit_code == 0 || strstr(output, text) == NULL)
        fail_msg("%s: exit %d, expected <%s>; its end: %s", change, exit_code, text, shell_tail(output));
    expect_nothing_left();
}

static void test_a_failure_is_shown(void **state)
{
    (void)state;
    shell_expect(
        "cp -r $CICADA_TEST_ROOT/functions/template-sql $DIR/failing && cd $DIR/failing && make clean", "");
    expect_tests_fail("sed -i 's/\"visits\":1/\"visits\":7/' test.sh", "2 passed, 1 failed\n");
    expect_tests_fail("sed -i 's/visits.count/visits.counts/' function.yaml", "visits.counts does not exist");
}

/* In the middle of the start, and of the tests. */
static void test_ended_by_a_signal(void **state)
{
    static const char *const seconds[] = {"0.5", "1.5", "3"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(seconds); i++) {
        CLEANUP_FREE char *command = xasprintf(
            "cd $CICADA_TEST_ROOT/functions/shop && PATH=$CICADA_TEST_BUILD/bin:$PATH TMPDIR=$DIR/tmp "
            "OUT=$CICADA_TEST_BUILD/functions timeout --foreground %s ./test.sh",
            seconds[i]);
        int exit_code;
        CLEANUP_FREE char *output = shell_output(command, &exit_code);

        if (exit_code != 124)
            fail_msg("exit %d; its end: %s", exit_code, shell_tail(output));
        expect_nothing_left();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shop),
        cmocka_unit_test(test_templates),
        cmocka_unit_test(test_a_failure_is_shown),
        cmocka_unit_test(test_ended_by_a_signal),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
