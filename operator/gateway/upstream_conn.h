/* upstream_conn.h - connections to function pods, and the idle ones kept per pod and loop.
 *
 *   connecting ──> busy ──> idle ──> busy ...
 *        └───────────┴────────┴────> closed
 *
 * upstream_set_state() alone moves a connection. Idle ones are taken last in, first out; they stay in epoll, so that a pod
 * that closes one takes it out of the pool at once. A connection that is older than its pod's epoch is not kept.
 *
 * Threads: a connection and a pool belong to their loop's thread; counts are atomic.
 */
#ifndef CICADA_GATEWAY_UPSTREAM_CONN_H
#define CICADA_GATEWAY_UPSTREAM_CONN_H

#include "operator/gateway/gateway_internal.h"
#include "operator/gateway/outbuf.h"

#define UPSTREAM_CONNECT_TIMEOUT_MS 1500 /* a lost SYN is sent again after 1 s */

struct exchange;

enum upstream_state { UPSTREAM_CONNECTING, UPSTREAM_BUSY, UPSTREAM_IDLE, UPSTREAM_CLOSED };

struct upstream_pool {
    struct upstream_list idle;
    atomic_int count;
};

struct upstream_conn {
    struct loop_watch watch;
    struct loop_timer timer; /* idle limit */
    struct loop_post gone;
    struct worker *worker;
    struct pod *pod; /* a reference */
    unsigned epoch;  /* the pod's when this was opened */
    enum upstream_state state;
    struct exchange *exchange; /* while connecting or busy */
    bool reused;
    struct outbuf out;
    LIST_ENTRY(upstream_conn) all_link, idle_link;
};

struct upstream_pool *upstream_pools_new(int loops);
void upstream_pools_free(struct upstream_pool *pools);

/* An idle connection, now busy; NULL: there is none. careful: one that the pod has just closed is not returned (costs a
 * system call; for requests that can't be sent twice). */
struct upstream_conn *upstream_take(struct worker *worker, struct pod *pod, struct exchange *exchange,
                                    bool careful);
/* A new one, connecting. bound: how many the pod may have of this gateway. */
int upstream_connect(struct worker *worker, struct pod *pod, const struct sockaddr_in *address, int bound,
                     struct exchange *exchange, struct upstream_conn **ret_conn, struct err *err) MUST_CHECK;
/* Takes over a connected socket (of a successful probe), idle. */
void upstream_adopt(struct worker *worker, struct pod *pod, int fd);

/* Busy to idle, or closed if nobody may use it again. */
void upstream_park(struct upstream_conn *conn);
void upstream_close(struct upstream_conn *conn);
/* -1: broken. */
int upstream_write(struct upstream_conn *conn, struct iovec *iov, int count);
void upstream_end(struct upstream_conn *conn); /* nothing more is written: the pod sees the end */
void upstream_want_read(struct upstream_conn *conn, bool want);

/* Closes the idle connections of one pod, of all pods. On the worker's thread. */
void upstream_close_idle(struct worker *worker, struct pod *pod);
void upstream_close_all_idle(struct worker *worker);

#endif
