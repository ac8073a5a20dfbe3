/* What `make install` puts there, and functions/template: copied, built against the installed headers alone, tested, served. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/tests/support_runtime.h"
#include "runtime/tests/support_shell.h"

static int set_up(void **state)
{
    char *directory = xstrdup("/tmp/cicada-template-test.XXXXXX");
    const char *build = getenv("CICADA_TEST_BUILD");

    assert_non_null(mkdtemp(directory));
    assert_int_equal(setenv("DIR", directory, 1), 0);
    assert_int_equal(setenv("MODE", strrchr(build, '/') + 1, 1), 0);
    *state = directory;
    shell_expect("cd $CICADA_TEST_ROOT && env -u MAKEFLAGS make -s MODE=$MODE install DESTDIR=$DIR/root "
                 "PREFIX=/opt/cicada 2>&1",
                 "");
    assert_int_equal(setenv("PKG_CONFIG_PATH", "", 1), 0);
    return 0;
}

static int tear_down(void **state)
{
    shell_expect("rm -rf $DIR $CICADA_TEST_BUILD/template-functions", "");
    free(*state);
    return 0;
}

#define PKG_CONFIG                                                                                           \
    "PKG_CONFIG_LIBDIR=$DIR/root/opt/cicada/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$DIR/root pkg-config "

static void test_install(void **state)
{
    CLEANUP_FREE char *flags = xasprintf("-I%s/root/opt/cicada/include", (const char *)*state);

    shell_expect("ls $DIR/root/opt/cicada/bin", "cicada-runtime");
    shell_expect("ls $DIR/root/opt/cicada/include/cicada", "function.h\nfunction_test.h\n");
    shell_expect(PKG_CONFIG "--cflags cicada-function", flags);
    shell_expect("test -f $DIR/root$(" PKG_CONFIG
                 "--variable=testing cicada-function | sed \"s|^$DIR/root||\") && echo there",
                 "there");
    shell_expect("cd $CICADA_TEST_ROOT && test \"$(" PKG_CONFIG
                 "--modversion cicada-function)\" = \"$(cat VERSION)\" && echo same",
                 "same");
    shell_expect("cat $DIR/root/opt/cicada/lib/pkgconfig/cicada-function.pc",
                 "prefix=/opt/cicada\n"); /* not DESTDIR */
}

/* A copy sees nothing of the checkout. */
static void test_template(void **state)
{
    struct runtime_process process;
    struct runtime_process_settings settings = {
        .functions = "template-functions",
        .database_url = getenv("TEST_DATABASE_URL"),
        .spec = "{\"handler\":\"hello.so:hello\",\"database\":{},\"http\":{\"pathTemplate\":\"/{name}\"}}"};

    (void)state;
    shell_expect("cp -r $CICADA_TEST_ROOT/functions/template $DIR/hello", "");
    shell_expect("cd $DIR/hello && env -u MAKEFLAGS -u MODE make unit SDK=$(" PKG_CONFIG
                 "--cflags cicada-function | sed 's/^-I//; s/ *$//') 2>&1",
                 "all passed");
    shell_expect("cd $DIR/hello && env -u MAKEFLAGS -u MODE make OUT=$CICADA_TEST_BUILD/template-functions "
                 "SDK=$DIR/root/opt/cicada/include 2>&1",
                 "hello.so");
    shell_expect("nm -D $CICADA_TEST_BUILD/template-functions/hello.so | grep -c 'U cicada' | grep -x 0",
                 "0");
    free(database_value("DROP TABLE IF EXISTS public.visits"));
    shell_expect("psql -q -v ON_ERROR_STOP=1 \"$TEST_DATABASE_URL\" -f $DIR/hello/schema.sql 2>&1; echo done",
                 "done");
    runtime_process_start(&process, &settings, /* serving= */ true);
    http_expect(process.port, "POST", "/Ada", NULL, 200,
                "{\"greeting\":\"hello\",\"name\":\"Ada\",\"visits\":1}");
    http_expect(process.port, "POST", "/Ada", NULL, 200, "\"visits\":2}");
    http_expect(process.port, "POST", "/", NULL, 404, "\"code\":\"unknown_path\"");
    runtime_process_release(&process);
    free(database_value("DROP TABLE public.visits"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_install),
        cmocka_unit_test(test_template),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
