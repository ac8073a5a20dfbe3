/* Which form of an answer an Accept header asks for. */
#include "runtime/tests/support_test.h"

#include "runtime/base/mem.h"
#include "runtime/host/accept.h"

static void test_headers(void **state)
{
    static const struct {
        const char *header;
        bool csv;
    } cases[] = {
        {"", false},
        {"*/*", false},
        {"application/json", false},
        {"text/csv", true},
        {"TEXT/CSV", true},
        {" text/csv ; charset=utf-8", true},
        {"text/*", true},
        {"text/html, text/*;q=0.5", true},
        {"text/csv, */*", false}, /* both are as good: JSON is the function's own */
        {"text/csv, */*;q=0.1", true},
        {"text/csv, application/json", false},
        {"text/csv;q=0.5, application/json;q=0.4", true},
        {"text/csv;q=0.4, application/json;q=0.5", false},
        {"text/csv;q=0.123,application/json;q=0.122", true},
        {"text/csv;q=0", false},
        {"text/csv;q=0, text/*", false}, /* the more exact one decides */
        {"text/csv; header=absent; Q=0.2, application/*;q=0.1", true},
        {"text/csv;q=0.5, application/json;q=0, */*;q=0.9", true},
        {"text/csvx, text", false},
        {"image/png", false},
        {",,;q=1,text/csv,", true},
        {"text/csv;q=", true},
        {"text/csv;q=2", true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct accept_view view = {0};

        accept_read(&view, cases[i].header);
        if (accept_wants_csv(&view) != cases[i].csv)
            fail_msg("<%s>: not %s", cases[i].header, cases[i].csv ? "CSV" : "JSON");
    }
}

static void test_several_headers(void **state)
{
    struct accept_view view = {0};

    (void)state;
    accept_read(&view, "application/json;q=0.5");
    accept_read(&view, "text/csv");
    assert_true(accept_wants_csv(&view));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_several_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
