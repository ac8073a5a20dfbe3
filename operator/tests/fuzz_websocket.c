/* The first byte says what the rest is (bit 7: an answer, else a request): a head.
 *
 * Who asks for a WebSocket is judged alike by another reading of the head, and so is what the pod gets to see: it asks once, with
 * the same key; an ordinary request says nothing of upgrades. What a 101 that grants one becomes grants it to the client, and
 * has no body. */
#include "operator/gateway/h1_body.h"
#include "operator/gateway/heads.h"
#include "operator/gateway/websocket.h"
#include "runtime/base/mem.h"

static bool parse(struct h1_head *head, enum h1_kind kind, const char *text, size_t len)
{
    struct h1_scan scan;
    size_t end;
    h1_scan_init(&scan, kind);
    return h1_scan_feed(&scan, text, len, &end) == H1_FAULT_NONE && end > 0 &&
           h1_head_parse(head, kind, text + scan.start, end - scan.start) == H1_FAULT_NONE;
}

static int count(const struct h1_head *head, const char *name, const struct h1_header **ret_last)
{
    int found = 0;
    for (size_t i = 0; i < head->header_count; i++) {
        if (h1_slice_equal_nocase(head->headers[i].name, name)) {
            *ret_last = &head->headers[i];
            found++;
        }
    }
    return found;
}

/* Of all headers of that name together, as one list. */
static bool lists(const struct h1_head *head, const char *name, const char *token)
{
    bool found = false;
    for (size_t i = 0; i < head->header_count; i++) {
        found |=
            h1_slice_equal_nocase(head->headers[i].name, name) && h1_list_has(head->headers[i].value, token);
    }
    return found;
}

static void check_asked(const struct h1_head *head, const struct h1_head *again)
{
    const struct h1_header *key = NULL, *again_key = NULL, *version = NULL, *other = NULL;
    bool right =
        count(head, "Sec-WebSocket-Key", &key) == 1 && count(head, "Sec-WebSocket-Version", &version) == 1 &&
        key->value.len == 24 && memcmp(key->value.at + 22, "==", 2) == 0 && version->value.len == 2 &&
        memcmp(version->value.at, "13", 2) == 0 && head->framing == H1_BODY_NONE && head->minor == 1 &&
        lists(head, "Connection", "upgrade") && lists(head, "Upgrade", "websocket");
    bool passed_on = websocket_wish(again) == WEBSOCKET_ASKED && count(again, "Upgrade", &other) == 1 &&
                     count(again, "Connection", &other) == 1 &&
                     count(again, "Sec-WebSocket-Key", &again_key) == 1 &&
                     memcmp(again_key->value.at, key->value.at, 24) == 0;
    if (!right || !passed_on) {
        abort();
    }
}

static void check_request(const struct h1_head *head)
{
    static struct h1_head again;
    enum websocket_wish wish = websocket_wish(head);
    struct route_match match = {.rest = head->target};
    struct request_facts facts = {
        .client_address = "192.0.2.1",
        .request_id = {"id", 2},
        .traceparent = {"00-0123456789abcdef0123456789abcdef-0123456789abcdef-00", 55},
        .websocket = wish == WEBSOCKET_ASKED};
    CLEANUP_STRBUF struct strbuf out;
    strbuf_init(&out, 1 << 20);
    request_write(&out, head, &match, &facts);
    if (head->header_count > H1_REQUEST_HEADERS_MAX - 10 || out.len > H1_REQUEST_HEAD_BYTES_MAX) {
        return; /* ours come on top of the client's: the pod's limits are wider */
    }
    if (strbuf_failed(&out) || !parse(&again, H1_REQUEST, out.buf, out.len)) {
        abort();
    }
    const struct h1_header *other;
    if (wish == WEBSOCKET_ASKED) {
        check_asked(head, &again);
    } else if (count(&again, "Upgrade", &other) + count(&again, "Connection", &other) > 0) {
        abort();
    }
}

static void check_answer(const struct h1_head *head)
{
    static struct h1_head again;
    if (head->status != 101 || !websocket_granted(head)) {
        return;
    }
    struct answer_facts facts = {
        .websocket = true, .request_id = {"id", 2}, .server_timing = "handler;dur=1", .date = "today"};
    CLEANUP_STRBUF struct strbuf out;
    strbuf_init(&out, 1 << 20);
    answer_write(&out, head, &facts);
    if (head->header_count > H1_RESPONSE_HEADERS_MAX - 8 || out.len > H1_RESPONSE_HEAD_BYTES_MAX) {
        return;
    }
    const struct h1_header *other;
    if (strbuf_failed(&out) || !parse(&again, H1_RESPONSE, out.buf, out.len) || again.status != 101 ||
        !websocket_granted(&again) || again.has_content_length || again.framing != H1_BODY_NONE ||
        count(&again, "Upgrade", &other) != 1 || count(&again, "Connection", &other) != 1) {
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
    CLEANUP_FREE char *text = xmemdup(data + 1, size - 1); /* exact, so that a read beyond the end is seen */
    if (!parse(&head, kind, text, size - 1)) {
        return 0;
    }
    if (kind == H1_REQUEST) {
        check_request(&head);
    } else {
        check_answer(&head);
    }
    return 0;
}
