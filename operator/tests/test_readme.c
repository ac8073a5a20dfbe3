/* READMEs that tell people what to type: every command and every output block of theirs is tried (.ci/run-readme), and what is neither
 * tried nor declared is found. The cluster's part is e2e/cases/case_readme.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/tests/support_shell.h"

static int set_up(void **state)
{
    char directory[] = "/tmp/cicada-readme-test.XXXXXX";

    (void)state;
    assert_non_null(mkdtemp(directory));
    assert_int_equal(setenv("DIR", directory, 1), 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    shell_expect("rm -rf $DIR", "");
    return 0;
}

static void test_the_readme(void **state)
{
    (void)state;
    shell_expect("cd $CICADA_TEST_ROOT && .ci/run-readme --local README.md 2>&1", "blocks tried");
}

static void test_the_functions(void **state)
{
    (void)state;
    shell_expect("cd $CICADA_TEST_ROOT && .ci/run-readme --local functions/template-sql/README.md "
                 "functions/template/README.md 2>&1",
                 "blocks tried");
    shell_expect("cd $CICADA_TEST_ROOT && .ci/run-readme --check functions/README.md "
                 "functions/shop/README.md 2>&1; echo $?",
                 "0");
}

/* A page with this block, in printf's notation, fails and says why. */
static void expect_refused(const char *how, const char *block, const char *why)
{
    CLEANUP_FREE char *command =
        xasprintf("printf '## Title\\n\\n%s\\n' >$DIR/page.md && cd $CICADA_TEST_ROOT && "
                  ".ci/run-readme %s $DIR/page.md 2>&1",
                  block, how);
    int exit_code;
    CLEANUP_FREE char *output = shell_output(command, &exit_code);

    if (exit_code != 1 || strstr(output, why) == NULL)
        fail_msg("%s: exit %d, expected <%s>: %s", block, exit_code, why, shell_tail(output));
}

static void test_what_is_not_declared(void **state)
{
    (void)state;
    expect_refused("--check", "```\\necho 1\\n```", "page.md:3: ```: neither executed nor declared");
    expect_refused("--check", "```sh maybe\\necho 1\\n```", "neither executed nor declared");
    expect_refused("--check", "    echo 1", "page.md:3: an indented block");
    expect_refused("--check", "```text\\n1\\n```", "an output without commands before it");
    expect_refused("--check", "```sh run\\nsleep 9\\n```", "the server has no output to wait for");
    expect_refused("--check", "```sh ci\\nmake nothing\\n```", "`make nothing` is no phase of .ci/run");
    expect_refused("--check", "```c from=functions/template/hello.c\\nint nothing;\\n```",
                   "this is not in functions/template/hello.c");
    expect_refused("--check", "[a](nowhere.md)", "page.md:3: there is no nowhere.md");
}

#define HERE                                                                                                 \
    "<!-- needs: cluster -->\\n" /* --cluster tries these in the checkout itself, which takes no copy */

static void test_what_is_not_so(void **state)
{
    (void)state;
    expect_refused("--cluster", HERE "```sh\\necho 1; false\\n```", "exit 1: 1");
    expect_refused("--cluster", HERE "```sh\\necho 1 2\\n```\\n```text\\n1 … 3\\n```",
                   "printed:\n1 2\nexpected:\n1 … 3");
    expect_refused("--cluster", HERE "```sh run\\nsleep 0.1\\n```\\n```text\\nserving\\n```", "it ended");
    expect_refused("--cluster",
                   HERE "```sh run\\nsetsid sleep 4 >/dev/null & echo serving; sleep 60\\n```\\n"
                        "```text\\nserving\\n```",
                   "left after Ctrl-C: sleep 4");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_not_declared),
        cmocka_unit_test(test_what_is_not_so),
        cmocka_unit_test(test_the_readme),
        cmocka_unit_test(test_the_functions),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
