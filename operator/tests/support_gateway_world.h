/* support_gateway_world.h - a gateway, the function shop/f, and one pod's server beside them: where most tests begin. */
#ifndef CICADA_TESTS_SUPPORT_GATEWAY_WORLD_H
#define CICADA_TESTS_SUPPORT_GATEWAY_WORLD_H

#include "operator/tests/support_gateway.h"

struct test_world {
    struct test_gateway test;
    struct test_upstream *upstream;
    struct sockaddr_in address; /* of the upstream */
};

/* The pod is ready. members: of shop/f's spec; settings: as for test_gateway_start(). */
void test_world_start_with(struct test_world *world, const char *members,
                           const struct gateway_settings *settings);
void test_world_start(struct test_world *world, const char *members);
/* The function sleeps: there is no pod, but the upstream would answer. */
void test_world_start_asleep(struct test_world *world, const char *members);
void test_world_stop(struct test_world *world);

int64_t test_world_statz(struct test_world *world, const char *key);
/* Waits until /statz says so. */
void test_world_wait_statz(struct test_world *world, const char *key, int64_t value);
/* A client whose request waits in line. */
void test_world_send_and_wait(struct test_world *world, struct test_client *client, const char *text);

/* For test_wait_until(); the argument is the world, or the upstream. */
bool test_world_one_waiting(void *world);
bool test_world_woken(void *world); /* the waker was asked: a moment after a request is seen in line */
bool test_world_nothing_going_on(void *world);
bool test_upstream_works(
    void *upstream); /* one request: the gateway gives a slot back a moment after the answer was read */
bool test_upstream_is_alone(void *upstream); /* no connection is open */

/* Reads an answer of this status; code: a piece of its body, or NULL. */
void test_read_status(struct test_client *client, int status, const char *code, struct test_answer *answer);
void test_expect_answer(struct test_client *client, int status, const char *code);
int64_t test_elapsed_ms(int64_t since_ms);

#endif
