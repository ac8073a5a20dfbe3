/* What came from a client and was taken by no exchange: a head that is not complete yet, requests that came too early, and those that wait for
 * a route. */
#include <assert.h>

#include "operator/gateway/client_internal.h"
#include "operator/gateway/exchange.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define CLIENT_IN_BYTES_MAX (2 * CLIENT_HEAD_READ_BYTES + WORKER_SCRATCH_BYTES)
#define CLIENT_HEAD_READ_BYTES                                                                               \
    H1_REQUEST_HEAD_BYTES_MAX  /* what comes with a head is kept in memory while it is held */
#define ROUTE_WAITERS_MAX 1000 /* per loop */

void client_input_keep(struct client_conn *client, const char *data, size_t len)
{
    if (!client->in) {
        client->in = h1_partial_new(H1_REQUEST, CLIENT_IN_BYTES_MAX);
    }
    int result = strbuf_append(&client->in->bytes, data, len);
    assert(result == 0); /* never more than one reading beside an incomplete head */
    (void)result;
}

void client_input_drop(struct client_conn *client)
{
    h1_partial_free(client->in);
    client->in = NULL;
}

static void wait_for_routes(struct client_conn *client, const char *data, size_t len)
{
    if (client->worker->route_waiter_count >= ROUTE_WAITERS_MAX) {
        exchange_refuse_unrouted(client);
        return;
    }
    client_input_keep(client, data, len);
    client_set_state(client, CLIENT_UNROUTED);
    client_conn_want_read(client, false);
}

/* data[0..len) is all there is of a request that has not begun; it may be moved about. False: its head is incomplete, and
 * nothing was done. */
static bool take_input(struct client_conn *client, struct h1_scan *scan, char *data, size_t len)
{
    struct worker *worker = client->worker;
    size_t end;
    enum h1_fault fault = h1_scan_feed(scan, data, len, &end);
    if (fault == H1_FAULT_NONE && end == 0) {
        return false;
    }
    client->arrived_us = clock_monotonic_us();
    if (fault == H1_FAULT_NONE) {
        fault = h1_head_parse(&worker->head, H1_REQUEST, data + scan->start, end - scan->start);
    }
    if (fault != H1_FAULT_NONE) {
        exchange_refuse_fault(client, fault);
        return true;
    }
    client_set_state(client, CLIENT_EXCHANGE);
    if (!exchange_start(client, &worker->head, data + end, len - end)) {
        wait_for_routes(client, data, len);
    }
    return true;
}

static void await_head(struct client_conn *client)
{
    client_set_state(client, CLIENT_HEAD);
    client_conn_want_read(client, true);
}

/* What is kept is looked at again, as a whole. */
static void take_kept(struct client_conn *client)
{
    struct h1_partial *kept = client->in;
    client->in = NULL;
    if (take_input(client, &kept->scan, kept->bytes.buf, kept->bytes.len)) {
        h1_partial_free(kept);
    } else {
        client->in = kept;
        await_head(client);
    }
}

static void take_read(struct client_conn *client, char *data, size_t len)
{
    struct h1_scan scan;
    if (client->in) {
        client_input_keep(client, data, len);
        take_kept(client);
        return;
    }
    h1_scan_init(&scan, H1_REQUEST);
    if (!take_input(client, &scan, data, len)) {
        client_input_keep(client, data, len);
        client->in->scan = scan;
        await_head(client);
    }
}

void client_input_read(struct client_conn *client)
{
    struct worker *worker = client->worker;
    ssize_t got = client_socket_read(&client->socket, worker->scratch, CLIENT_HEAD_READ_BYTES);
    if (got < 0 && client_socket_is_empty()) {
        return;
    }
    if (got <= 0) {
        client_conn_close(client);
        return;
    }
    take_read(client, worker->scratch, (size_t)got);
}

void client_input_resume(struct loop_post *post)
{
    struct client_conn *client = container_of(post, struct client_conn, resume);
    client->resume_pending = false;
    if (client->state == CLIENT_CLOSED) {
        loop_defer(client->worker->loop, &client->gone);
    } else if (client->state == CLIENT_WAITING && client->in) {
        take_kept(client);
    } else if (client->state == CLIENT_UNROUTED) {
        client_set_state(client, CLIENT_HEAD);
        take_kept(client);
    }
}

static void resume_by(struct client_conn *client, void (*post)(struct loop *loop, struct loop_post *post))
{
    if (!client->resume_pending) {
        client->resume_pending = true;
        post(client->worker->loop, &client->resume);
    }
}

void client_input_resume_soon(struct client_conn *client)
{
    resume_by(client, loop_post);
}

void client_conn_retry_routes(struct worker *worker)
{
    struct client_conn *client;
    TAILQ_FOREACH(client, &worker->route_waiters, link)
    {
        resume_by(client, loop_post_patient); /* there may be a thousand */
    }
}
