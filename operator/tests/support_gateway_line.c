#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>

#include "operator/gateway/upstream_conn.h"
#include "operator/tests/support_gateway_line.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

static int told_count; /* order of settled() calls within a test */

static void settled(struct waiter *waiter)
{
    container_of(waiter, struct test_told, waiter)->order = ++told_count;
}

static void attend(void *arg)
{
    struct test_line *line = arg;
    line->attended++;
}

void test_line_spec(struct test_line *line, const char *members)
{
    struct function_spec *spec = test_spec("shop", "f", 0, members);
    function_set_spec(line->function, spec, (struct function_peers){.gateways = 1});
    function_spec_unref(spec);
}

void test_line_init(struct test_line *line, const char *members)
{
    *line = (struct test_line){.function = function_state_new("shop", "f")};
    told_count = 0;
    line->function->attend = attend;
    line->function->attend_arg = line;
    test_line_spec(line, members);
    for (int i = 0; i < TEST_LINE_WAITERS; i++) {
        line->told[i].waiter.settled = settled;
        line->told[i].waiter.bytes = 1000;
    }
}

void test_line_release(struct test_line *line)
{
    for (int i = 0; i < TEST_LINE_WAITERS; i++) {
        if (line->told[i].waiter.state == WAITER_GRANTED) {
            function_release(line->function, &line->told[i].waiter);
        }
        (void)function_leave(line->function, &line->told[i].waiter);
        free(line->told[i].waiter.refused_code);
    }
    function_state_unref(line->function);
}

void test_line_pod_of(struct test_line *line, int pod, uint64_t template, enum gateway_pod_state state,
                      const char *failure)
{
    struct gateway_pod news = {.namespace = "shop",
                               .function = "f",
                               .name = "p",
                               .uid = "u",
                               .has_address = true,
                               .state = state,
                               .failure_code = failure,
                               .template = template};
    news.address = (struct sockaddr_in){.sin_family = AF_INET,
                                        .sin_port = htons(8080),
                                        .sin_addr.s_addr = htonl(0x0A000001u + (unsigned)pod)};
    if (!line->pods[pod]) {
        char uid[16];
        snprintf(uid, sizeof(uid), "u%d", pod);
        line->pods[pod] = pod_new(uid, upstream_pools_new(1), clock_monotonic_ms());
        function_add_pod(line->function, line->pods[pod]);
    }
    (void)function_update_pod(line->function, line->pods[pod], &news);
}

void test_line_pod(struct test_line *line, int pod, enum gateway_pod_state state, const char *failure)
{
    test_line_pod_of(line, pod, /* template= */ 0, state, failure);
}

enum admission test_line_admit(struct test_line *line, int i)
{
    bool wake;
    return function_admit(line->function, &line->told[i].waiter, false, &wake);
}

void test_line_done(struct test_line *line, int i)
{
    function_release(line->function, &line->told[i].waiter);
}
