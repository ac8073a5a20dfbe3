/* A WebSocket: bytes both ways, as they come. Each direction ends on its own, and its end is passed on after its last byte;
 * whoever can't take more stops the other side being read. */
#include <errno.h>
#include <sys/socket.h>

#include "operator/gateway/exchange_internal.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

static void pass_ends(struct exchange *exchange)
{
    if (exchange->up == TUNNEL_ENDED && !outbuf_pending(&exchange->upstream->out)) {
        exchange->up = TUNNEL_PASSED;
        upstream_end(exchange->upstream);
    }
    if (exchange->down == TUNNEL_ENDED && !client_socket_pending(&exchange->client->socket)) {
        exchange->down = TUNNEL_PASSED;
        client_conn_end(exchange->client);
    }
    bool over = exchange->up == TUNNEL_PASSED && exchange->down == TUNNEL_PASSED;
    if (over && !client_socket_pending(&exchange->client->socket)) { /* TLS tells its end, which needs room */
        client_conn_close(exchange->client);                         /* and with it the exchange */
    }
}

void exchange_tunnel_pod_deaf(struct exchange *exchange)
{
    exchange->up = TUNNEL_PASSED; /* what it said before is still to be read */
    client_conn_want_read(exchange->client, false);
    pass_ends(exchange);
}

static void to_pod(struct exchange *exchange, char *data, size_t len)
{
    struct iovec iov = {.iov_base = data, .iov_len = len};
    exchange_progress(exchange);
    if (upstream_write(exchange->upstream, &iov, 1) < 0) {
        exchange_tunnel_pod_deaf(exchange);
    }
}

void exchange_tunnel_from_client(struct exchange *exchange)
{
    struct client_conn *client = exchange->client;
    if (exchange->up != TUNNEL_FLOWS || outbuf_pending(&exchange->upstream->out)) {
        client_conn_want_read(client, false); /* asked again when there is room */
        return;
    }
    ssize_t got = client_socket_read(&client->socket, exchange->worker->scratch, WORKER_SCRATCH_BYTES);
    if (got < 0 && client_socket_is_empty()) {
        return;
    }
    if (got < 0) {
        exchange_cut(exchange);
    } else if (got == 0) {
        exchange->up = TUNNEL_ENDED;
        client_conn_want_read(client, false);
        pass_ends(exchange);
    } else {
        to_pod(exchange, exchange->worker->scratch, (size_t)got);
    }
}

void exchange_tunnel_from_pod(struct exchange *exchange)
{
    struct upstream_conn *pod = exchange->upstream;
    if (exchange->down != TUNNEL_FLOWS || client_socket_pending(&exchange->client->socket)) {
        upstream_want_read(pod, false);
        return;
    }
    ssize_t got = recv(pod->watch.fd, exchange->worker->scratch, WORKER_SCRATCH_BYTES, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (got < 0) {
        exchange_pod_failed(exchange, /* may_retry= */ false, "upstream_closed");
        return;
    }
    if (got == 0) {
        exchange->down = TUNNEL_ENDED;
        upstream_want_read(pod, false);
        pass_ends(exchange);
        return;
    }
    struct iovec iov = {.iov_base = exchange->worker->scratch, .iov_len = (size_t)got};
    exchange_progress(exchange);
    if (client_conn_write(exchange->client, &iov, 1) < 0) {
        exchange_cut(exchange);
    }
}

void exchange_tunnel_took(struct exchange *exchange)
{
    if (exchange->up == TUNNEL_FLOWS && !outbuf_pending(&exchange->upstream->out)) {
        client_conn_want_read(exchange->client, true);
    }
    if (exchange->down == TUNNEL_FLOWS && !client_socket_pending(&exchange->client->socket)) {
        upstream_want_read(exchange->upstream, true);
    }
    pass_ends(exchange);
}

/* What the client sent before it knew: part of the tunnel. */
static void pass_early_bytes(struct exchange *exchange)
{
    struct h1_partial *kept = client_conn_take_kept(exchange->client);
    if (kept) {
        to_pod(exchange, kept->bytes.buf, kept->bytes.len);
        h1_partial_free(kept);
    }
}

void exchange_tunnel_begin(struct exchange *exchange, const struct h1_head *head, char *data, size_t len)
{
    struct worker *worker = exchange->worker;
    char server_timing[SERVER_TIMING_SIZE];
    exchange_server_timing(exchange, server_timing);
    struct answer_facts facts = {.websocket = true,
                                 .request_id = exchange->request_id,
                                 .server_timing = server_timing,
                                 .date = worker_date(worker)};
    strbuf_clear(&worker->build);
    answer_write(&worker->build, head, &facts);
    exchange->status = head->status;
    exchange->answer_begun = true;
    exchange_set_state(exchange, EXCHANGE_TUNNEL);
    function_metrics_count(exchange->function->metrics, exchange->status,
                           clock_monotonic_us() - exchange->arrived_us);
    metric_add(worker->gateway->metrics.websockets, 1);
    free(exchange->request); /* it may live for hours */
    exchange->request = NULL;
    struct iovec iov[] = {{.iov_base = worker->build.buf, .iov_len = worker->build.len},
                          {.iov_base = data, .iov_len = len}};
    if (client_conn_write(exchange->client, iov, 2) < 0) {
        exchange_cut(exchange);
        return;
    }
    client_conn_want_read(exchange->client, true);
    pass_early_bytes(exchange);
}
