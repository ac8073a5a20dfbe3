/* support_gateway_line.h - one function's line under test, its pods and waiters, without a gateway, a loop or a socket. */
#ifndef CICADA_TESTS_SUPPORT_GATEWAY_LINE_H
#define CICADA_TESTS_SUPPORT_GATEWAY_LINE_H

#include "operator/gateway/function_state.h"
#include "operator/tests/support_gateway.h"

#define TEST_LINE_WAITERS 16
#define TEST_LINE_PODS    3

/* A waiter that remembers when it was told. */
struct test_told {
    struct waiter waiter;
    int order; /* 0: not told */
};

struct test_line {
    struct function_state *function;
    struct pod *pods[TEST_LINE_PODS];
    struct test_told told[TEST_LINE_WAITERS];
    int attended;
};

/* members: of the Function's spec, as for test_spec(). One gateway, no pod. */
void test_line_init(struct test_line *line, const char *members);
void test_line_release(struct test_line *line);
void test_line_spec(struct test_line *line, const char *members);
/* The pod with this number is as said; made when it is first named. */
void test_line_pod(struct test_line *line, int pod, enum gateway_pod_state state, const char *failure);
void test_line_pod_of(struct test_line *line, int pod, uint64_t template, enum gateway_pod_state state,
                      const char *failure);
/* Waiter i asks for a slot; has ended with it. */
enum admission test_line_admit(struct test_line *line, int i);
void test_line_done(struct test_line *line, int i);

#endif
