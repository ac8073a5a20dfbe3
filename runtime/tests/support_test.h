/* support_test.h - cmocka with the headers that it wants, and what tests of every module use. */
#ifndef CICADA_TESTS_SUPPORT_TEST_H
#define CICADA_TESTS_SUPPORT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/base/err.h"

/* Fails with the error's own text. */
#define assert_ok(call)                                                                                      \
    do {                                                                                                     \
        if ((call) != 0)                                                                                     \
            fail_msg("%s: %s", #call, err.msg);                                                              \
    } while (0)

#define assert_fails(call, expected_code)                                                                    \
    do {                                                                                                     \
        err_clear(&err);                                                                                     \
        if ((call) != -1)                                                                                    \
            fail_msg("%s succeeded", #call);                                                                 \
        if (err.code != (expected_code))                                                                     \
            fail_msg("%s: %s, not %s: %s", #call, err_code_name(err.code), err_code_name(expected_code),     \
                     err.msg);                                                                               \
    } while (0)

#endif
