/* The README's table of settings and --help say the same. */
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

static char *help_text(void)
{
    CLEANUP_FREE char *command = xasprintf("%s/bin/cicada-runtime --help", getenv("CICADA_TEST_BUILD"));
    char *text = xcalloc(1, 20000);
    FILE *pipe = popen(command, "r");

    assert_non_null(pipe);
    assert_in_range(fread(text, 1, 19999, pipe), 1000, 19998);
    assert_int_equal(pclose(pipe), 0);
    return text;
}

/* The section, without what follows it. */
static char *settings_section(void)
{
    CLEANUP_FREE char *path = xasprintf("%s/runtime/README.md", getenv("CICADA_TEST_ROOT"));
    CLEANUP_FREE char *text = runtime_process_read(path);
    const char *begin = strstr(text, "\n## Settings\n");
    const char *end;

    assert_non_null(begin);
    end = strstr(begin + 1, "\n## ");
    assert_non_null(end);
    return xstrndup(begin, (size_t)(end - begin));
}

/* The row that has `text` in it, or NULL; the caller frees. */
static char *row_with(const char *section, const char *text)
{
    const char *begin = section;

    while ((begin = strstr(begin, "\n| ")) != NULL) {
        const char *end = strchr(++begin, '\n');
        CLEANUP_FREE char *row = xstrndup(begin, (size_t)(end - begin));
        if (strstr(row, text) != NULL)
            return steal_ptr(&row);
    }
    return NULL;
}

static void expect_row(const char *section, const char *name, const char *default_text)
{
    CLEANUP_FREE char *quoted = xasprintf("`%s`", name);
    CLEANUP_FREE char *row = row_with(section, quoted);
    CLEANUP_FREE char *quoted_default = xasprintf("| `%s` |", default_text ? default_text : "");

    if (row == NULL)
        fail_msg("the README's settings lack %s", name);
    if (default_text != NULL && strstr(row, quoted_default) == NULL)
        fail_msg("the README has not %s as default of %s: %s", default_text, name, row);
}

static void test_all_settings_are_documented(void **state)
{
    CLEANUP_FREE char *help = help_text();
    CLEANUP_FREE char *section = settings_section();
    char *rest = help;
    int count = 0;

    (void)state;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        char name[64], flag[64], default_text[64];
        const char *environment = strstr(line, "environment ");
        const char *begin = strstr(line, "default ");
        if (sscanf(line, "  --%63[^=]=", flag) == 1 && strchr(line, '=') != NULL) {
            CLEANUP_FREE char *with_dashes = xasprintf("--%s", flag);
            expect_row(section, with_dashes, NULL);
        }
        if (environment != NULL && sscanf(environment, "environment %63[A-Z_]]", name) == 1) {
            bool has_default = begin != NULL && sscanf(begin, "default %63[^],]", default_text) == 1;
            expect_row(section, name, has_default ? default_text : NULL);
            count++;
        } else if (line[0] == ' ' && line[1] == ' ' && sscanf(line + 2, "%63[A-Z_]", name) == 1) {
            expect_row(section, name, NULL);
            count++;
        }
    }
    assert_true(count >= 17);
}

static void test_all_that_is_documented_is_there(void **state)
{
    CLEANUP_FREE char *help = help_text();
    CLEANUP_FREE char *section = settings_section();
    int count = 0;

    (void)state;
    for (const char *row = section; (row = strstr(row, "\n| `")) != NULL; row++) {
        size_t cell = strcspn(row + 3, "|");
        CLEANUP_FREE char *names = xstrndup(row + 3, cell);
        char *rest = names;
        for (char *name; (name = strsep(&rest, "`, ")) != NULL;) {
            if (*name == '\0')
                continue;
            if (strstr(help, name) == NULL)
                fail_msg("there is no setting %s", name);
            count++;
        }
    }
    assert_true(count >= 17);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_settings_are_documented),
        cmocka_unit_test(test_all_that_is_documented_is_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
