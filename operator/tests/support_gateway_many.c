#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "operator/tests/support_gateway_many.h"
#include "runtime/base/mem.h"

struct expected_waiting {
    struct test_gateway *test;
    int64_t arrivals;
};

static bool has_arrived(void *arg)
{
    const struct expected_waiting *expected = arg;
    return test_gateway_statz(expected->test, "arrivals") >= expected->arrivals;
}

void test_many_send(struct test_many *many, struct test_gateway *test, int count, const char *path,
                    bool in_order)
{
    int64_t before = test_gateway_statz(test, "arrivals");
    many->count = count;
    many->clients = xcalloc((size_t)count, sizeof(*many->clients));
    for (int i = 0; i < count; i++) {
        CLEANUP_FREE char *text = xasprintf("GET %s?n=%d HTTP/1.1\r\nHost: f.shop.fn.test\r\n\r\n", path, i);
        test_client_open(&many->clients[i], test->port);
        test_client_send(&many->clients[i], text);
        if (in_order || i == count - 1) {
            struct expected_waiting expected = {test, (before < 0 ? 0 : before) + i + 1};
            test_wait_until(has_arrived, &expected, "arrival");
        }
    }
}

int test_many_read(struct test_many *many, int status)
{
    int found = 0;
    for (int i = 0; i < many->count; i++) {
        struct test_answer answer;
        test_client_read(&many->clients[i], &answer, false);
        found += answer.status == status;
        test_answer_release(&answer);
    }
    return found;
}

void test_many_close(struct test_many *many)
{
    for (int i = 0; i < many->count; i++) {
        test_client_close(&many->clients[i]);
    }
    free(many->clients);
}
