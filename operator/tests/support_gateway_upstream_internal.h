/* support_gateway_upstream_internal.h - what support_gateway_upstream.c (connections, counts) and support_gateway_paths.c (what
 * its paths do) share. */
#ifndef CICADA_TESTS_SUPPORT_GATEWAY_UPSTREAM_INTERNAL_H
#define CICADA_TESTS_SUPPORT_GATEWAY_UPSTREAM_INTERNAL_H

#include <pthread.h>
#include <sys/queue.h>

#include "operator/tests/support_gateway_upstream.h"
#include "runtime/base/stop.h"
#include "runtime/base/strbuf.h"

#define UPSTREAM_HEAD_MAX 40000

struct upstream_connection {
    LIST_ENTRY(upstream_connection) link;
    struct test_upstream *upstream;
    pthread_t thread;
    int fd;
    bool idle, done; /* guarded by mu */
    char buffer[UPSTREAM_HEAD_MAX];
    size_t have;
    char head[UPSTREAM_HEAD_MAX];
    size_t head_len;
    long long left; /* of the body; -1: chunked */
    long long body_bytes;
    unsigned body_sum;
};
LIST_HEAD(upstream_connection_list, upstream_connection);

struct test_upstream {
    struct sockaddr_in address;
    struct stop stop;
    pthread_t acceptor;
    pthread_mutex_t mu;
    pthread_cond_t changed;
    int listen_fd; /* guarded by mu, like all below; -1: refusing */
    struct upstream_connection_list connections;
    int requests, accepted, open, open_max, in_flight, in_flight_max, gate;
    char *raw;
    int order[TEST_UPSTREAM_ORDER_MAX];
    size_t order_count;
    struct strbuf heard;    /* cap 0: not recorded */
    long long tunnel_bytes; /* that came after /ws/send had ended its own stream */
};

/* A thread's main: serves a struct upstream_connection until it ends. */
void *upstream_serve(void *connection);

#endif
