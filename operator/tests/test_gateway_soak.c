/* Many clients, pods and changes at random for some seconds: every answer that comes is right, every slot comes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include "operator/tests/support_gateway.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define SOAK_MS      5000
#define SOAK_CLIENTS 12
#define SOAK_PODS    4

struct soak {
    struct test_gateway test;
    struct test_upstream *upstreams[SOAK_PODS];
    atomic_bool stop;
    atomic_int answers, wrong, kinds[3]; /* of status 2xx, 502, 503 */
};

struct client_arg {
    struct soak *soak;
    unsigned seed;
};

static unsigned next_random(unsigned *seed)
{
    *seed = *seed * 1103515245u + 12345u;
    return *seed >> 16;
}

static void note_answer(struct soak *soak, const struct test_answer *answer, const char *body)
{
    atomic_fetch_add(&soak->answers, 1);
    if (answer->status == 200 && strcmp(answer->body.buf, body) == 0) {
        atomic_fetch_add(&soak->kinds[0], 1);
    } else if (answer->status == 502) {
        atomic_fetch_add(&soak->kinds[1], 1);
    } else if (answer->status == 503) {
        atomic_fetch_add(&soak->kinds[2], 1);
    } else {
        print_message("wrong: %d %s, expected %s\n", answer->status, answer->body.buf, body);
        atomic_fetch_add(&soak->wrong, 1);
    }
}

/* One request of a random kind; false: the connection is of no more use. */
static bool one_request(struct soak *soak, struct test_client *client, unsigned *seed)
{
    struct test_answer answer;
    char text[512], body[64];
    unsigned kind = next_random(seed) % 10;
    snprintf(body, sizeof(body), "body-%u", next_random(seed));
    if (kind < 3) {
        snprintf(text, sizeof(text),
                 "POST /echo HTTP/1.1\r\nHost: f.shop.fn.test\r\nContent-Length: %zu\r\n\r\n%s", strlen(body),
                 body);
    } else if (kind < 5) {
        snprintf(text, sizeof(text),
                 "POST /echo HTTP/1.1\r\nHost: f.shop.fn.test\r\nTransfer-Encoding: "
                 "chunked\r\n\r\n%zx\r\n%s\r\n0\r\n\r\n",
                 strlen(body), body);
    } else if (kind < 8) {
        snprintf(text, sizeof(text), "GET /sleep/%u HTTP/1.1\r\nHost: f.shop.fn.test\r\n\r\n",
                 next_random(seed) % 8);
        snprintf(body, sizeof(body), "ok");
    } else {
        snprintf(text, sizeof(text), "GET /close HTTP/1.1\r\nHost: f.shop.fn.test\r\n\r\n");
        snprintf(body, sizeof(body), "close");
    }
    size_t len = strlen(text), first = next_random(seed) % len;
    if (next_random(seed) % 8 == 0) { /* half a request, then gone */
        (void)test_client_try_send(client, text, first);
        if (next_random(seed) % 2) {
            test_client_reset(client);
        }
        return false;
    }
    if (!test_client_try_send(client, text, first) ||
        !test_client_try_send(client, text + first, len - first)) {
        return false;
    }
    if (next_random(seed) % 12 == 0) {
        return false; /* does not wait for the answer */
    }
    bool complete = test_client_try_read(client, &answer, false);
    if (complete) {
        note_answer(soak, &answer, body);
    }
    complete &= !answer.closed;
    test_answer_release(&answer);
    return complete;
}

static void *run_client(void *arg)
{
    struct client_arg *client_arg = arg;
    while (!atomic_load(&client_arg->soak->stop)) {
        struct test_client client;
        test_client_open(&client, client_arg->soak->test.port);
        while (!atomic_load(&client_arg->soak->stop) &&
               one_request(client_arg->soak, &client, &client_arg->seed)) {}
        test_client_close(&client);
    }
    return NULL;
}

static void change_something(struct soak *soak, unsigned *seed)
{
    unsigned which = next_random(seed) % SOAK_PODS;
    struct sockaddr_in address = test_upstream_address(soak->upstreams[which]);
    char uid[32];
    snprintf(uid, sizeof(uid), "uid-%u", which);
    switch (next_random(seed) % 8) {
    case 0:
        test_gateway_pod(&soak->test, uid, uid, NULL, GATEWAY_POD_PENDING, NULL);
        (void)gateway_pod_announced(soak->test.gateway, uid, &address);
        break;
    case 1:
        test_gateway_pod(&soak->test, uid, uid, &address, GATEWAY_POD_READY, NULL);
        break;
    case 2:
        test_gateway_pod(&soak->test, uid, uid, &address, GATEWAY_POD_PENDING, NULL);
        break;
    case 3:
        (void)gateway_pod_goodbye(soak->test.gateway, uid);
        break;
    case 4:
        gateway_pod_remove(soak->test.gateway, uid);
        break;
    case 5:
        test_upstream_refuse(soak->upstreams[which]);
        test_upstream_drop_idle(soak->upstreams[which]);
        (void)poll(NULL, 0, 5);
        test_upstream_listen(soak->upstreams[which]);
        break;
    case 6:
        gateway_peers_set(soak->test.gateway, 1 + (int)(next_random(seed) % 3), (int)(next_random(seed) % 3));
        break;
    default:
        test_gateway_function(&soak->test, "shop", "f", "\"concurrency\":3,\"http\":{}");
        break;
    }
}

static bool settled(void *arg)
{
    struct soak *soak = arg;
    return test_gateway_statz(&soak->test, "inFlight") == 0 &&
           test_gateway_statz(&soak->test, "waiting") == 0;
}

static bool many_answers(void *arg)
{
    struct soak *soak = arg;
    return atomic_load(&soak->answers) > 20;
}

static void test_soak(void **state)
{
    (void)state;
    struct soak soak = {0};
    pthread_t threads[SOAK_CLIENTS];
    struct client_arg args[SOAK_CLIENTS];
    unsigned seed = (unsigned)clock_monotonic_us();
    print_message("seed %u\n", seed);
    test_gateway_start(&soak.test, &(struct gateway_settings){.loops = 3});
    test_gateway_function(&soak.test, "shop", "f", "\"concurrency\":4,\"http\":{}");
    gateway_catalog_synced(soak.test.gateway);
    for (int i = 0; i < SOAK_PODS; i++) {
        soak.upstreams[i] = test_upstream_new();
    }
    for (int i = 0; i < SOAK_CLIENTS; i++) {
        args[i] = (struct client_arg){&soak, seed + (unsigned)i};
        assert_int_equal(pthread_create(&threads[i], NULL, run_client, &args[i]), 0);
    }
    int64_t until_ms = clock_monotonic_ms() + SOAK_MS;
    while (clock_monotonic_ms() < until_ms) {
        change_something(&soak, &seed);
        (void)poll(NULL, 0, (int)(next_random(&seed) % 20));
    }
    /* Everything comes to rest once one pod is there for good. */
    struct sockaddr_in address = test_upstream_address(soak.upstreams[0]);
    test_gateway_pod(&soak.test, "last", "uid-last", &address, GATEWAY_POD_READY, NULL);
    test_wait_until(many_answers, &soak, "answers");
    atomic_store(&soak.stop, true);
    for (int i = 0; i < SOAK_CLIENTS; i++) {
        pthread_join(threads[i], NULL);
    }
    test_wait_until(settled, &soak, "every slot given back");
    print_message("%d answers: %d good, %d 502, %d 503\n", atomic_load(&soak.answers),
                  atomic_load(&soak.kinds[0]), atomic_load(&soak.kinds[1]), atomic_load(&soak.kinds[2]));
    assert_int_equal(atomic_load(&soak.wrong), 0);
    assert_true(atomic_load(&soak.kinds[0]) > 20);
    test_gateway_stop(&soak.test);
    for (int i = 0; i < SOAK_PODS; i++) {
        test_upstream_free(soak.upstreams[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_soak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
