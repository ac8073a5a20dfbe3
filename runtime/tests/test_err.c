#include <errno.h>
#include <string.h>

#include "runtime/base/text.h"
#include "runtime/tests/support_test.h"

static void sets_code_and_message(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    assert_int_equal(err.code, ERR_NONE);
    assert_int_equal(err_set(&err, ERR_NOT_FOUND, "no %s in %d", "pod", 7), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_string_equal(err.msg, "no pod in 7");
    err.retry_after_ms = 5;
    err_set(&err, ERR_INVALID, "other");
    assert_int_equal(err.retry_after_ms, 0);
}

static void system_errors_say_why(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    assert_int_equal(err_set_errno(&err, ENOENT, "open %s", "/x"), -1);
    assert_int_equal(err.code, ERR_IO);
    assert_int_equal(err.sys_errno, ENOENT);
    assert_string_equal(err.msg, "open /x: No such file or directory");
    err_set(&err, ERR_INTERNAL, "plain");
    assert_int_equal(err.sys_errno, 0);
}

static void wrapping_keeps_the_code(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    err_set(&err, ERR_CONFLICT, "inner");
    err.retry_after_ms = 9;
    assert_int_equal(err_wrap(&err, "outer %d", 1), -1);
    assert_string_equal(err.msg, "outer 1: inner");
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_int_equal(err.retry_after_ms, 9);
}

static void may_quote_its_own_message(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    err_set(&err, ERR_INVALID, "inner");
    err_set(&err, ERR_UNAVAILABLE, "again: %s", err.msg);
    assert_string_equal(err.msg, "again: inner");
}

static void long_messages_are_cut_between_characters(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    char text[1024];
    for (size_t lead = 0; lead < 4; lead++) {
        memset(text, 'x', lead);
        for (size_t i = lead; i + 4 < sizeof(text); i += 3) {
            memcpy(text + i, "\xE2\x82\xAC", 4); /* the euro sign */
        }
        err_set(&err, ERR_INVALID, "%s", text);
        size_t len = strlen(err.msg);
        assert_in_range(len, sizeof(err.msg) - 4, sizeof(err.msg) - 1);
        assert_true(is_valid_utf8(err.msg, len));
        err_wrap(&err, "%s", text);
        assert_true(is_valid_utf8(err.msg, strlen(err.msg)));
    }
}

static void every_code_has_a_name(void **state)
{
    (void)state;
    for (int code = ERR_NONE; code <= ERR_IO; code++) {
        assert_string_not_equal(err_code_name((enum err_code)code), "Unknown");
    }
    assert_string_equal(err_code_name(ERR_NOT_FOUND), "NotFound");
    assert_string_equal(err_code_name((enum err_code)99), "Unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_code_and_message),
        cmocka_unit_test(system_errors_say_why),
        cmocka_unit_test(wrapping_keeps_the_code),
        cmocka_unit_test(may_quote_its_own_message),
        cmocka_unit_test(long_messages_are_cut_between_characters),
        cmocka_unit_test(every_code_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
