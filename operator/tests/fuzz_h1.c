/* The first byte says what the rest is (bit 7: an answer, else a request) and in pieces of what size it is fed.
 *
 * Whatever the pieces, the verdict, the head and the body are the same. A request that is accepted is written out for a pod, and
 * that is accepted again and means the same. A chunked body that is accepted is one that http_parser accepts, too. */
#include <http_parser.h>

#include "operator/gateway/h1_body.h"
#include "operator/gateway/heads.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

struct outcome {
    enum h1_fault head_fault, body_fault;
    size_t head_start, head_end;
    uint64_t head_hash, body_hash;
    size_t body_len, taken;
    bool complete;
    enum h1_framing framing;
};

static uint64_t hash_slice(uint64_t hash, struct h1_slice slice)
{
    hash = hash_fnv1a(hash, &slice.len, sizeof(slice.len));
    return slice.len > 0 ? hash_fnv1a(hash, slice.at, slice.len) : hash;
}

static uint64_t hash_head(const struct h1_head *head)
{
    uint64_t hash =
        hash_slice(hash_slice(hash_slice(HASH_FNV1A_START, head->target), head->host), head->reason);
    for (size_t i = 0; i < head->header_count; i++) {
        hash = hash_slice(hash_slice(hash, head->headers[i].name), head->headers[i].value);
        hash = hash_fnv1a(hash, &head->headers[i].id, sizeof(head->headers[i].id));
        hash = hash_fnv1a(hash, &head->headers[i].listed, sizeof(head->headers[i].listed));
    }
    return hash;
}

static void read_body(struct outcome *outcome, const struct h1_head *head, const char *data, size_t len,
                      size_t piece)
{
    struct h1_body body;
    h1_body_init(&body, head->framing, head->content_length);
    outcome->body_hash = HASH_FNV1A_START;
    for (size_t at = 0; at < len && !body.complete; at += piece) {
        size_t count = len - at < piece ? len - at : piece, body_len, taken;
        CLEANUP_FREE char *copy = xmemdup(data + at, count);
        outcome->body_fault = h1_body_feed(&body, copy, count, &body_len, &taken);
        if (outcome->body_fault != H1_FAULT_NONE) {
            return;
        }
        outcome->body_hash = hash_fnv1a(outcome->body_hash, copy, body_len);
        outcome->body_len += body_len;
        outcome->taken += taken;
    }
    outcome->complete = body.complete;
}

static struct outcome run(enum h1_kind kind, const char *data, size_t len, size_t piece, struct h1_head *head)
{
    struct outcome outcome = {0};
    struct h1_scan scan;
    h1_scan_init(&scan, kind);
    for (size_t have = 0; have < len && outcome.head_end == 0;) {
        have = len - have < piece ? len : have + piece;
        outcome.head_fault = h1_scan_feed(&scan, data, have, &outcome.head_end);
        if (outcome.head_fault != H1_FAULT_NONE) {
            return outcome;
        }
    }
    if (outcome.head_end == 0) {
        return outcome;
    }
    outcome.head_start = scan.start;
    outcome.head_fault = h1_head_parse(head, kind, data + scan.start, outcome.head_end - scan.start);
    if (outcome.head_fault == H1_FAULT_NONE) {
        outcome.head_hash = hash_head(head);
        outcome.framing = head->framing;
        read_body(&outcome, head, data + outcome.head_end, len - outcome.head_end, piece);
    }
    return outcome;
}

static bool same(const struct outcome *a, const struct outcome *b)
{
    if (a->head_fault != b->head_fault || a->body_fault != b->body_fault) {
        return false;
    }
    if (a->head_fault != H1_FAULT_NONE || a->body_fault != H1_FAULT_NONE) {
        return true;
    }
    return a->head_end == b->head_end && a->head_hash == b->head_hash && a->body_hash == b->body_hash &&
           a->body_len == b->body_len && a->taken == b->taken && a->complete == b->complete;
}

static void check_written(const struct h1_head *head)
{
    struct route_match match = {.rest = head->target};
    struct request_facts facts = {
        .client_address = "192.0.2.1",
        .request_id = {"id", 2},
        .traceparent = {"00-0123456789abcdef0123456789abcdef-0123456789abcdef-00", 55}};
    CLEANUP_STRBUF struct strbuf out;
    struct h1_scan scan;
    struct h1_head again;
    size_t end;
    strbuf_init(&out, 1 << 20);
    size_t id_at = request_write(&out, head, &match, &facts);
    if (strbuf_failed(&out) || memcmp(out.buf + id_at, "id\r\n", 4) != 0) {
        abort();
    }
    if (head->header_count > H1_REQUEST_HEADERS_MAX - 8 || out.len > H1_REQUEST_HEAD_BYTES_MAX) {
        return; /* ours come on top of the client's: the pod's limits are wider */
    }
    h1_scan_init(&scan, H1_REQUEST);
    if (h1_scan_feed(&scan, out.buf, out.len, &end) != H1_FAULT_NONE || end != out.len ||
        h1_head_parse(&again, H1_REQUEST, out.buf, out.len) != H1_FAULT_NONE) {
        abort();
    }
    if (again.framing != head->framing || again.content_length != head->content_length ||
        again.host.len != head->host.len || !again.keep_alive || again.expect_continue ||
        again.upgrade_websocket) {
        abort();
    }
}

struct reference {
    uint64_t hash;
    bool complete;
};

static int on_reference_body(http_parser *parser, const char *at, size_t len)
{
    struct reference *reference = parser->data;
    reference->hash = hash_fnv1a(reference->hash, at, len);
    return 0;
}

static int on_reference_complete(http_parser *parser)
{
    struct reference *reference = parser->data;
    reference->complete = true;
    http_parser_pause(parser, 1);
    return 0;
}

static void check_chunked(const struct outcome *outcome, const char *data, size_t len)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    static const http_parser_settings settings = {.on_body = on_reference_body,
                                                  .on_message_complete = on_reference_complete};
    struct reference reference = {.hash = HASH_FNV1A_START};
    http_parser parser;
    http_parser_init(&parser, HTTP_RESPONSE);
    parser.data = &reference;
    http_parser_execute(&parser, &settings, head, sizeof(head) - 1);
    http_parser_execute(&parser, &settings, data, len);
    /* It reads trailers as headers, lengths among them; here they are dropped. */
    bool in_trailers = parser.flags & F_TRAILING;
    if ((!reference.complete && !in_trailers) || reference.hash != outcome->body_hash) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    static struct h1_head head;
    enum h1_kind kind = data[0] & 0x80 ? H1_RESPONSE : H1_REQUEST;
    size_t piece = data[0] & 0x7F ? data[0] & 0x7F : 1;
    const char *text = (const char *)data + 1;
    struct outcome pieces = run(kind, text, size - 1, piece, &head);
    struct outcome whole = run(kind, text, size - 1, SIZE_MAX / 2, &head);
    if (!same(&whole, &pieces)) {
        abort();
    }
    if (whole.head_fault == H1_FAULT_NONE && whole.head_end > 0) {
        if (kind == H1_REQUEST) {
            check_written(&head);
        }
        if (whole.framing == H1_BODY_CHUNKED && whole.complete) {
            check_chunked(&whole, text + whole.head_end, whole.taken);
        }
    }
    return 0;
}
