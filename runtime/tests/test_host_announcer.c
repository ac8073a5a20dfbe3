/* announcer and http_post against gateways of the test; names are resolved by the test's own getaddrinfo(). */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/host/announcer.h"
#include "runtime/host/drain.h"
#include "runtime/host/http_post.h"
#include "runtime/tests/support_gateway.h"
#include "runtime/tests/support_runtime.h"

/* "gateways." has the first `addresses` of 127.0.1.1, 127.0.1.2, ...; the first `failures` questions fail. */
static atomic_int addresses, failures, questions;

struct fake_entry {
    struct addrinfo info;
    struct sockaddr_in address;
};

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **list)
{
    int count = atomic_load(&addresses);

    (void)service;
    (void)hints;
    atomic_fetch_add(&questions, 1);
    if (strcmp(node, "gateways.") != 0)
        return EAI_NONAME;
    if (atomic_load(&failures) > 0 && atomic_fetch_sub(&failures, 1) > 0)
        return EAI_AGAIN;
    *list = NULL;
    while (count > 0) {
        struct fake_entry *entry = xcalloc(1, sizeof(*entry));
        entry->address.sin_family = AF_INET;
        entry->address.sin_addr.s_addr = htonl(0x7f000100u + (uint32_t)count--);
        entry->info.ai_addr = (struct sockaddr *)&entry->address;
        entry->info.ai_addrlen = sizeof(entry->address);
        entry->info.ai_next = *list;
        *list = &entry->info;
    }
    return 0;
}

void freeaddrinfo(struct addrinfo *list)
{
    while (list != NULL) {
        struct addrinfo *next = list->ai_next;
        free(list);
        list = next;
    }
}

static struct announcer *start(int port)
{
    CLEANUP_FREE char *gateway = xasprintf("gateways:%d", port);
    const struct announcer_settings settings = {gateway, "shop", "create-order", "pod\"1", "uid-1"};
    struct announcer *announcer = NULL;
    struct err err = ERR_INIT;

    assert_int_equal(announcer_start(&settings, &announcer, &err), 0);
    return announcer;
}

static void finish(struct announcer *announcer)
{
    assert_true(announcer_free(announcer, clock_monotonic_ms() + 5000));
}

static bool is_acknowledged(void *announcer)
{
    return announcer_acknowledged(announcer);
}

static void test_tells_every_gateway(void **state)
{
    struct fake_gateway gateways[3];
    const int statuses[] = {200};
    struct announcer *announcer;
    int port = free_port();

    (void)state;
    addresses = 2;
    failures = 2; /* the name comes up late */
    fake_gateway_start(&gateways[0], "127.0.1.1", port, statuses, 1);
    fake_gateway_start(&gateways[1], "127.0.1.2", port, statuses, 1);
    fake_gateway_start(&gateways[2], "127.0.1.3", port, statuses, 1);
    announcer = start(port);
    assert_int_equal(fake_gateway_announcements(&gateways[0]), 0); /* nothing serves yet */
    announcer_announce(announcer, 8080);
    wait_until(fake_gateway_was_announced, &gateways[0], "the first gateway is told");
    wait_until(fake_gateway_was_announced, &gateways[1], "the second gateway is told");
    assert_false(announcer_acknowledged(announcer));
    addresses = 3; /* a gateway that came later probed the pod, so it hears the goodbye */
    announcer_goodbye(announcer);
    wait_until(is_acknowledged, announcer, "the goodbye is acknowledged");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(fake_gateway_announcements(&gateways[i]), i < 2 ? 1 : 0);
        assert_int_equal(fake_gateway_goodbyes(&gateways[i]), 1);
        fake_gateway_stop(&gateways[i]);
    }
    assert_non_null(strstr(gateways[0].text, "{\"namespace\":\"shop\",\"function\":\"create-order\","
                                             "\"podName\":\"pod\\\"1\",\"podUID\":\"uid-1\",\"port\":8080}"));
    finish(announcer);
}

static void test_one_dead_gateway_delays_no_other(void **state)
{
    struct fake_gateway gateway;
    const int statuses[] = {200};
    struct announcer *announcer;
    int port = free_port();

    (void)state;
    addresses = 2; /* nobody listens on 127.0.1.1 */
    fake_gateway_start(&gateway, "127.0.1.2", port, statuses, 1);
    announcer = start(port);
    announcer_announce(announcer, 8080);
    wait_until(fake_gateway_was_announced, &gateway, "the living gateway is told");
    announcer_goodbye(announcer);
    while (fake_gateway_goodbyes(&gateway) == 0)
        wait_until(fake_gateway_was_announced, &gateway, "the goodbye comes");
    assert_false(announcer_acknowledged(announcer)); /* not by all */
    fake_gateway_stop(&gateway);
    finish(announcer);
}

static void test_a_gateway_that_ended_is_not_waited_for(void **state)
{
    struct fake_gateway gateways[2];
    const int statuses[] = {200};
    struct announcer *announcer;
    int64_t start_ms;
    int port = free_port();

    (void)state;
    addresses = 2;
    fake_gateway_start(&gateways[0], "127.0.1.1", port, statuses, 1);
    fake_gateway_start(&gateways[1], "127.0.1.2", port, statuses, 1);
    announcer = start(port);
    announcer_announce(announcer, 8080);
    wait_until(fake_gateway_was_announced, &gateways[0], "the first gateway is told");
    wait_until(fake_gateway_was_announced, &gateways[1], "the second gateway is told");
    fake_gateway_stop(&gateways[1]);
    addresses = 1;
    start_ms = clock_monotonic_ms();
    announcer_goodbye(announcer);
    wait_until(is_acknowledged, announcer, "the goodbye is acknowledged by the one that is left");
    assert_true(clock_monotonic_ms() - start_ms < DRAIN_QUIET_MS);
    fake_gateway_stop(&gateways[0]);
    finish(announcer);
}

/* DNS names one gateway, and that one knows of another: nothing tells that the other will send nothing more. */
static void test_a_gateway_that_has_no_name_yet(void **state)
{
    struct fake_gateway gateway;
    const int statuses[] = {200};
    int port = free_port();

    (void)state;
    addresses = 1;
    for (int gateways = 2; gateways >= 0; gateways--) { /* 0: one of the minor versions before does not say */
        struct announcer *announcer;
        fake_gateway_start(&gateway, "127.0.1.1", port, statuses, 1);
        atomic_store(&gateway.gateways, gateways);
        announcer = start(port);
        announcer_announce(announcer, 8080);
        wait_until(fake_gateway_was_announced, &gateway, "the gateway is told");
        announcer_goodbye(announcer);
        if (gateways < 2)
            wait_until(is_acknowledged, announcer, "the goodbye is acknowledged");
        while (fake_gateway_goodbyes(&gateway) == 0)
            wait_until(fake_gateway_was_announced, &gateway, "the goodbye comes");
        (void)poll(NULL, 0, 100);
        assert_int_equal(announcer_acknowledged(announcer), gateways < 2);
        finish(announcer);
        fake_gateway_stop(&gateway);
    }
}

static void test_retries(void **state)
{
    struct fake_gateway gateway;
    const int statuses[] = {500, 202, 200};
    struct announcer *announcer;
    int port = free_port();

    (void)state;
    addresses = 1;
    fake_gateway_start(&gateway, "127.0.1.1", port, statuses, 3);
    announcer = start(port);
    announcer_announce(announcer, 8080);
    while (fake_gateway_announcements(&gateway) < 3)
        wait_until(fake_gateway_was_announced, &gateway, "asked again");
    finish(announcer);
    assert_int_equal(fake_gateway_announcements(&gateway), 3);
    fake_gateway_stop(&gateway);
}

static void test_ends_before_it_announced(void **state)
{
    struct announcer *announcer;

    (void)state;
    addresses = 0; /* the name has no address: the thread asks on */
    announcer = start(1);
    finish(announcer);
    assert_true(announcer_free(NULL, 0));
    assert_false(announcer_acknowledged(NULL));
}

static void test_gateway_must_be_name_and_port(void **state)
{
    static const char *const bad[] = {
        "gateway", ":9091", "gateway:", "gateway:0", "gateway:65536", "gateway:x"};
    struct announcer *announcer;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        const struct announcer_settings settings = {bad[i], "n", "f", "p", "u"};
        struct err err = ERR_INIT;
        assert_int_equal(announcer_start(&settings, &announcer, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
    }
}

static void test_post_failures(void **state)
{
    struct fake_gateway gateway;
    const int hang_up[] = {0};
    struct stop stop;
    struct http_post post = {
        .host = "h", .path = "/announce", .body = "{}", .connect_timeout_ms = 500, .answer_timeout_ms = 200};
    struct err err = ERR_INIT;
    struct http_post_answer answer;

    (void)state;
    stop_init(&stop);
    fake_gateway_start(&gateway, "127.0.0.1", 0, hang_up, 1);
    post.address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)gateway.port)};
    post.address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(http_post_send(&post, &stop, &answer, &err), -1);
    assert_int_equal(err.code, ERR_IO);
    post.body = "{"; /* never complete for the gateway, so it never answers */
    err_clear(&err);
    assert_int_equal(http_post_send(&post, &stop, &answer, &err), -1);
    assert_int_equal(err.code, ERR_TIMEOUT);
    stop_set(&stop);
    err_clear(&err);
    assert_int_equal(http_post_send(&post, &stop, &answer, &err), -1);
    assert_int_equal(err.code, ERR_CANCELLED);
    fake_gateway_stop(&gateway);
    stop_release(&stop);
}

static void test_drain_decisions(void **state)
{
    static const struct {
        struct drain_view view;
        enum drain_decision decision;
    } cases[] = {
        {{.elapsed_ms = 50, .limit_ms = 1000, .idle_ms = 60000, .acknowledged = true}, DRAIN_DONE},
        {{.elapsed_ms = 3, .limit_ms = 1000, .idle_ms = 60000, .acknowledged = true},
         DRAIN_WAIT}, /* a request may have been sent just before the acknowledgement */
        {{.elapsed_ms = 500, .limit_ms = 1000, .idle_ms = 49, .acknowledged = true}, DRAIN_WAIT},
        {{.elapsed_ms = 50, .limit_ms = 1000, .idle_ms = 60000, .acknowledged = true, .busy = true},
         DRAIN_WAIT},
        {{.elapsed_ms = 1999, .limit_ms = 30000, .idle_ms = 60000},
         DRAIN_WAIT}, /* quiet counts from the signal on */
        {{.elapsed_ms = 2000, .limit_ms = 30000, .idle_ms = 60000}, DRAIN_DONE},
        {{.elapsed_ms = 9000, .limit_ms = 30000, .idle_ms = 1999}, DRAIN_WAIT},
        {{.elapsed_ms = 9000, .limit_ms = 30000, .idle_ms = 2000, .busy = true}, DRAIN_WAIT},
        /* A request of 15 s outlasted the goodbye: 2 s from its end, for what its gateway may have sent before. */
        {{.elapsed_ms = 15000, .limit_ms = 30000, .idle_ms = 15000, .busy = true}, DRAIN_WAIT},
        {{.elapsed_ms = 16999, .limit_ms = 30000, .idle_ms = 1999}, DRAIN_WAIT},
        {{.elapsed_ms = 17000, .limit_ms = 30000, .idle_ms = 2000}, DRAIN_DONE},
        {{.elapsed_ms = 30000, .limit_ms = 30000, .idle_ms = 0, .busy = true}, DRAIN_TIMED_OUT},
        {{.elapsed_ms = 0, .limit_ms = 0, .idle_ms = 0}, DRAIN_TIMED_OUT},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_int_equal(drain_decide(&cases[i].view), cases[i].decision);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tells_every_gateway),
        cmocka_unit_test(test_one_dead_gateway_delays_no_other),
        cmocka_unit_test(test_a_gateway_that_ended_is_not_waited_for),
        cmocka_unit_test(test_a_gateway_that_has_no_name_yet),
        cmocka_unit_test(test_retries),
        cmocka_unit_test(test_ends_before_it_announced),
        cmocka_unit_test(test_gateway_must_be_name_and_port),
        cmocka_unit_test(test_post_failures),
        cmocka_unit_test(test_drain_decisions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
