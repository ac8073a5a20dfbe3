#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

#include "operator/gateway/exchange_internal.h"
#include "operator/gateway/websocket.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define INTERIM_ANSWERS_MAX 16 /* before the one that counts */

static char crlf[] = "\r\n";
static char last_chunk[] = "0\r\n\r\n";

size_t chunk_line(char out[CHUNK_LINE_SIZE], size_t len)
{
    return (size_t)snprintf(out, CHUNK_LINE_SIZE, "%zx\r\n", len);
}

/* Appends a body piece, framed if the receiver gets chunks, to iov; returns the new count (at most four more). */
static int frame_piece(struct iovec *iov, int count, bool chunked, bool last, char *data, size_t len,
                       char line[CHUNK_LINE_SIZE])
{
    if (len > 0 && chunked) {
        iov[count++] = (struct iovec){.iov_base = line, .iov_len = chunk_line(line, len)};
    }
    if (len > 0) {
        iov[count++] = (struct iovec){.iov_base = data, .iov_len = len};
    }
    if (len > 0 && chunked) {
        iov[count++] = (struct iovec){.iov_base = crlf, .iov_len = 2};
    }
    if (last && chunked) {
        iov[count++] = (struct iovec){.iov_base = last_chunk, .iov_len = 5};
    }
    return count;
}

/* ---- the request's body ---- */

static void reject_upload(struct exchange *exchange, const struct gateway_problem *problem)
{
    if (exchange->answer_begun) {
        exchange_cut(exchange);
    } else {
        exchange_reject(exchange, problem);
    }
}

static void forward_upload(struct exchange *exchange, char *data, size_t len)
{
    size_t body_len, taken;
    enum h1_fault fault = h1_body_feed(&exchange->upload, data, len, &body_len, &taken);
    if (fault != H1_FAULT_NONE) {
        struct gateway_problem problem = {
            .status = h1_fault_status(fault), .code = h1_fault_code(fault), .detail = h1_fault_detail(fault)};
        reject_upload(exchange, &problem);
        return;
    }
    exchange->upload_bytes += body_len;
    if (exchange->upload_bytes > (uint64_t)exchange->spec->body_bytes) {
        struct gateway_problem problem = {.status = 413,
                                          .code = "body_too_large",
                                          .detail =
                                              "The body is larger than the function's limits.bodyBytes."};
        exchange->upload.complete = false;
        reject_upload(exchange, &problem);
        return;
    }
    client_conn_keep(exchange->client, data + taken, len - taken);
    exchange_progress(exchange);
    struct iovec iov[4];
    char line[CHUNK_LINE_SIZE];
    int count =
        frame_piece(iov, 0, exchange->upload_chunked, exchange->upload.complete, data, body_len, line);
    if (count > 0 && upstream_write(exchange->upstream, iov, count) < 0) {
        exchange_upload_broken(exchange);
    }
}

void exchange_client_readable(struct exchange *exchange)
{
    struct client_conn *client = exchange->client;
    if (exchange_is_tunnel(exchange)) {
        exchange_tunnel_from_client(exchange);
        return;
    }
    bool flows = exchange->state == EXCHANGE_AWAITING || exchange->state == EXCHANGE_ANSWERING;
    if (!flows || exchange->upload.complete || exchange->upload_broken ||
        outbuf_pending(&exchange->upstream->out)) {
        client_conn_want_read(client, false); /* asked again when there is room */
        return;
    }
    ssize_t got = client_socket_read(&client->socket, exchange->worker->scratch, WORKER_SCRATCH_BYTES);
    if (got < 0 && client_socket_is_empty()) {
        return;
    }
    if (got <= 0) {
        client_conn_close(client); /* half a request: nobody waits for an answer to that */
        return;
    }
    forward_upload(exchange, exchange->worker->scratch, (size_t)got);
}

void exchange_upload_took(struct exchange *exchange, bool all)
{
    exchange_progress(exchange);
    if (all && exchange_is_tunnel(exchange)) {
        exchange_tunnel_took(exchange);
    } else if (all && !exchange->upload.complete && !exchange->upload_broken) {
        client_conn_want_read(exchange->client, true);
    }
}

/* The pod takes no more; it may have answered before it closed, so reading goes on. */
void exchange_upload_broken(struct exchange *exchange)
{
    if (exchange_is_tunnel(exchange)) {
        exchange_tunnel_pod_deaf(exchange);
        return;
    }
    exchange->upload_broken = true;
    client_conn_want_read(exchange->client, false);
}

/* ---- the answer ---- */

static int64_t between_us(int64_t time_us, int64_t first_us, int64_t last_us)
{
    return time_us < first_us ? first_us : time_us > last_us ? last_us : time_us;
}

/* "NAME;dur=1.23": milliseconds. */
static void append_phase(struct strbuf *out, const char *name, int64_t phase_us)
{
    uint64_t hundredths = phase_us > 0 ? ((uint64_t)phase_us + 5) / 10 : 0;
    const char fraction[3] = {'.', (char)('0' + hundredths / 10 % 10), (char)('0' + hundredths % 10)};
    strbuf_append_str(out, out->len > 0 ? ", " : "");
    strbuf_append_str(out, name);
    strbuf_append_str(out, ";dur=");
    strbuf_append_uint(out, hundredths / 100);
    strbuf_append(out, fraction, sizeof(fraction));
}

void exchange_server_timing(struct exchange *exchange, char out[SERVER_TIMING_SIZE])
{
    int64_t now_us = clock_monotonic_us(), handler_us = now_us - exchange->handed_us;
    struct strbuf text;
    strbuf_init_fixed(&text, out, SERVER_TIMING_SIZE);
    if (!exchange->waiter.cold) {
        if (exchange->held_us != 0) {
            append_phase(&text, "queue", exchange->handed_us - exchange->arrived_us);
        }
        append_phase(&text, "handler", handler_us);
        return;
    }
    /* Somebody else woke it, or it was awake already: what this gateway did for it ended when it had asked. */
    bool woken = exchange->waiter.woken_us >= exchange->arrived_us;
    int64_t woken_us = between_us(woken ? exchange->waiter.woken_us : exchange->held_us, exchange->arrived_us,
                                  exchange->handed_us);
    int64_t usable_us = between_us(exchange->waiter.usable_us, woken_us, exchange->handed_us);
    static const char *const names[COLD_PHASES] = {"decide", "start", "probe", "handler"};
    const int64_t phases_us[COLD_PHASES] = {
        [COLD_DECIDE] = woken_us - exchange->arrived_us,
        [COLD_START] = usable_us - woken_us,
        [COLD_PROBE] = exchange->handed_us - usable_us,
        [COLD_HANDLER] = handler_us,
    };
    for (int i = 0; i < COLD_PHASES; i++) {
        metric_observe(exchange->worker->gateway->metrics.cold_start[i], (double)phases_us[i] / 1e6);
        append_phase(&text, names[i], phases_us[i]);
    }
    function_metrics_cold(exchange->function->metrics, now_us - exchange->arrived_us);
}

/* data: answer bytes after the head; head_iov: the head, or NULL if it was sent. */
static void forward_answer(struct exchange *exchange, char *data, size_t len, const struct iovec *head_iov)
{
    size_t body_len, taken;
    if (h1_body_feed(&exchange->answer, data, len, &body_len, &taken) != H1_FAULT_NONE) {
        exchange_pod_failed(exchange, /* may_retry= */ false, "malformed_answer");
        return;
    }
    struct iovec iov[5];
    char line[CHUNK_LINE_SIZE];
    int count = 0;
    if (head_iov) {
        iov[count++] = *head_iov;
    }
    count =
        frame_piece(iov, count, exchange->answer_chunked, exchange->answer.complete, data, body_len, line);
    exchange->answer_begun = true;
    if (count > 0 && client_conn_write(exchange->client, iov, count) < 0) {
        client_conn_close(exchange->client);
        return;
    }
    if (exchange->answer.complete) {
        exchange_complete(exchange, exchange->pod_keeps && taken == len && exchange->upload.complete &&
                                        !exchange->upload_broken &&
                                        !outbuf_pending(&exchange->upstream->out));
        return;
    }
    exchange_progress(exchange);
}

static void begin_answer(struct exchange *exchange, struct h1_head *head, char *data, size_t len)
{
    struct worker *worker = exchange->worker;
    bool told_close = !head->keep_alive;
    if (exchange->head_only) {
        h1_head_without_body(head);
    }
    bool open_ended = head->framing == H1_BODY_CHUNKED || head->framing == H1_BODY_UNTIL_CLOSE;
    bool draining = atomic_load_explicit(&worker->gateway->draining, memory_order_relaxed);
    h1_body_init(&exchange->answer, head->framing, head->content_length);
    exchange->status = head->status;
    exchange->pod_keeps = !told_close && head->framing != H1_BODY_UNTIL_CLOSE;
    exchange->answer_chunked = open_ended && !exchange->http10;
    exchange->close_after = !exchange->keep_alive || !exchange->upload.complete || draining ||
                            (open_ended && exchange->http10) ||
                            exchange->websocket; /* what the client sends now need not be HTTP */
    char server_timing[SERVER_TIMING_SIZE];
    exchange_server_timing(exchange, server_timing);
    struct answer_facts facts = {.close = exchange->close_after,
                                 .client_http10 = exchange->http10,
                                 .chunked = exchange->answer_chunked,
                                 .request_id = exchange->request_id,
                                 .server_timing = server_timing,
                                 .date = worker_date(worker)};
    strbuf_clear(&worker->build);
    answer_write(&worker->build, head, &facts);
    exchange_set_state(exchange, EXCHANGE_ANSWERING);
    struct iovec iov = {.iov_base = worker->build.buf, .iov_len = worker->build.len};
    forward_answer(exchange, data, len, &iov);
}

/* data is what there is of the answer: in the partial one, if there is one. Interim answers are skipped: what a client may
 * wait for, 100, it had at hand-over. False: more is needed, and data[*ret_skip..len) is to be kept. */
static bool take_answer_head(struct exchange *exchange, struct h1_scan *scan, char *data, size_t len,
                             size_t *ret_skip)
{
    struct h1_head *head = &exchange->worker->head;
    for (size_t skip = 0;;) {
        size_t end;
        enum h1_fault fault = h1_scan_feed(scan, data + skip, len - skip, &end);
        if (fault == H1_FAULT_NONE && end == 0) {
            *ret_skip = skip;
            return false;
        }
        if (fault == H1_FAULT_NONE) {
            fault = h1_head_parse(head, H1_RESPONSE, data + skip, end);
        }
        bool granted = head->status == 101 && exchange->websocket && websocket_granted(head);
        bool interim = head->status < 200 && head->status != 101;
        if (fault != H1_FAULT_NONE || (head->status == 101 && !granted) ||
            (interim && ++exchange->interims > INTERIM_ANSWERS_MAX)) {
            exchange_pod_failed(exchange, /* may_retry= */ false, "malformed_answer");
            return true;
        }
        skip += end;
        if (granted) {
            exchange_tunnel_begin(exchange, head, data + skip, len - skip);
            return true;
        }
        if (!interim) {
            begin_answer(exchange, head, data + skip, len - skip);
            return true;
        }
        h1_scan_init(scan, H1_RESPONSE);
    }
}

static void answer_head_bytes(struct exchange *exchange, char *data, size_t len)
{
    struct h1_partial *partial = exchange->answer_in;
    size_t skip;
    exchange->answer_seen = true;
    if (!partial) {
        struct h1_scan scan;
        h1_scan_init(&scan, H1_RESPONSE);
        if (!take_answer_head(exchange, &scan, data, len, &skip)) {
            /* A head of at most its limit, and one reading: it fits. */
            exchange->answer_in =
                h1_partial_new(H1_RESPONSE, H1_RESPONSE_HEAD_BYTES_MAX + WORKER_SCRATCH_BYTES);
            exchange->answer_in->scan = scan;
            strbuf_append(&exchange->answer_in->bytes, data + skip, len - skip);
        }
        return;
    }
    strbuf_append(&partial->bytes, data, len);
    if (take_answer_head(exchange, &partial->scan, partial->bytes.buf, partial->bytes.len, &skip)) {
        h1_partial_free(partial);
        exchange->answer_in = NULL;
    } else {
        strbuf_consume(&partial->bytes, skip);
    }
}

static void answer_ended(struct exchange *exchange)
{
    bool proper = exchange->state == EXCHANGE_ANSWERING && h1_body_end_of_stream(&exchange->answer);
    if (!proper) {
        exchange_pod_failed(exchange, /* may_retry= */ true, "upstream_closed");
        return;
    }
    struct iovec iov = {.iov_base = last_chunk, .iov_len = 5};
    if (exchange->answer_chunked && client_conn_write(exchange->client, &iov, 1) < 0) {
        client_conn_close(exchange->client);
        return;
    }
    exchange_complete(exchange, /* pod_clean= */ false);
}

void exchange_answer_readable(struct exchange *exchange)
{
    if (exchange_is_tunnel(exchange)) {
        exchange_tunnel_from_pod(exchange);
        return;
    }
    if (client_socket_pending(&exchange->client->socket) && exchange->state == EXCHANGE_ANSWERING) {
        upstream_want_read(exchange->upstream, false); /* asked again when the client has taken its part */
        return;
    }
    ssize_t got = recv(exchange->upstream->watch.fd, exchange->worker->scratch, WORKER_SCRATCH_BYTES, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (got < 0) {
        exchange_pod_failed(exchange, /* may_retry= */ true, "upstream_closed");
    } else if (got == 0) {
        answer_ended(exchange);
    } else if (exchange->state == EXCHANGE_ANSWERING) {
        forward_answer(exchange, exchange->worker->scratch, (size_t)got, NULL);
    } else {
        answer_head_bytes(exchange, exchange->worker->scratch, (size_t)got);
    }
}

void exchange_client_took(struct exchange *exchange, bool all)
{
    exchange_progress(exchange);
    if (all && exchange_is_tunnel(exchange)) {
        exchange_tunnel_took(exchange);
    } else if (all && exchange->state == EXCHANGE_ANSWERING) {
        upstream_want_read(exchange->upstream, true);
    }
}
