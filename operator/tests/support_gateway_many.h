/* support_gateway_many.h - many clients at once, each with one request, without a thread for each. */
#ifndef CICADA_TESTS_SUPPORT_GATEWAY_MANY_H
#define CICADA_TESTS_SUPPORT_GATEWAY_MANY_H

#include "operator/tests/support_gateway.h"

struct test_many {
    struct test_client *clients;
    int count;
};

/* Opens `count` connections and sends on each: GET <path>?n=<index>. One after the
 * other, each seen by the gateway before the next if in_order. */
void test_many_send(struct test_many *many, struct test_gateway *test, int count, const char *path,
                    bool in_order);
/* Reads one answer from each; returns how many had that status. */
int test_many_read(struct test_many *many, int status);
void test_many_close(struct test_many *many);

#endif
