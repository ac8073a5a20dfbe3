/* Lines of "name: value" as the headers of a request and of an answer: the framing of a request is refused or certain, an
 * answer's head has the lines that it should have and no others, and a trace goes on or begins anew. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"
#include "runtime/host/trace_context.h"
#include "runtime/http/http_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEADERS_MAX    32
#define HEAD_MAX_BYTES (64u << 10)

static void require(bool holds)
{
    if (!holds)
        abort();
}

static size_t read_headers(char *text, struct http_header *ret_headers)
{
    size_t count = 0;

    for (char *next = text; next != NULL && count < HEADERS_MAX;) {
        char *line = strsep(&next, "\n"), *colon = strchr(line, ':');
        if (colon != NULL)
            *colon = '\0';
        ret_headers[count++] = (struct http_header){line, colon ? colon + 1 : ""};
    }
    return count;
}

static size_t count_name(const struct http_header *headers, size_t count, const char *name)
{
    size_t found = 0;

    for (size_t i = 0; i < count; i++)
        found += strcasecmp(headers[i].name, name) == 0;
    return found;
}

static void check_request(const struct http_header *headers, size_t count, bool version_1_1)
{
    struct http_body_framing framing;
    struct err err = ERR_INIT;
    size_t lengths = count_name(headers, count, "Content-Length");
    size_t encodings = count_name(headers, count, "Transfer-Encoding");

    if (http_request_headers_check(headers, count, version_1_1, &framing, &err) != 0) {
        require(err.code == ERR_INVALID && err.msg[0] != '\0');
        return;
    }
    /* Two parsers that see different bodies are what makes smuggling possible. */
    require(lengths + encodings <= 1 && framing.content_length >= 0);
    require(framing.chunked == (encodings == 1));
    require(lengths == 1 || framing.content_length == 0);
    require(count_name(headers, count, "Host") == 1 || !version_1_1);
    for (size_t i = 0; i < count; i++)
        if (strcasecmp(headers[i].name, "Content-Length") == 0)
            require(strspn(headers[i].value, "0123456789 \t") == strlen(headers[i].value));
}

static size_t count_lines(const char *head, size_t len)
{
    size_t lines = 0;

    for (size_t i = 0; i < len; i++) {
        lines += head[i] == '\n';
        require((head[i] == '\n') == (i > 0 && head[i - 1] == '\r'));
    }
    return lines;
}

static void check_answer(const struct http_header *headers, size_t count, enum http_framing framing)
{
    static const char *const own[] = {"Connection", "Content-Length",    "Date",
                                      "Keep-Alive", "Transfer-Encoding", "Upgrade"};
    CLEANUP_STRBUF struct strbuf head;
    struct http_response_head response = {.status = 200, .framing = framing, .length = 7};
    struct err err = ERR_INIT;
    size_t expected = 4 + count; /* status line, Date, Connection, the empty line */

    strbuf_init(&head, HEAD_MAX_BYTES);
    if (http_response_head_append(&head, &response, headers, count, &err) != 0) {
        require(head.len == 0 && err.msg[0] != '\0');
        return;
    }
    for (size_t i = 0; i < ARRAY_SIZE(own); i++)
        expected -= count_name(headers, count, own[i]);
    expected += framing == HTTP_FRAMING_LENGTH || framing == HTTP_FRAMING_CHUNKED;
    require(count_lines(head.buf, head.len) == expected);
    require(str_ends_with(head.buf, "\r\n\r\n"));
}

static void check_trace(const struct http_header *headers, size_t count)
{
    struct trace_ids ids = {.seed = 1};
    struct trace_context first, second;
    const char *parent = trace_context_parent(headers, count);

    require(parent == NULL || count_name(headers, count, "traceparent") == 1);
    trace_context_begin(&first, &ids, parent);
    require(strlen(first.traceparent) == TRACEPARENT_SIZE - 1 && strlen(first.trace_id) == TRACE_ID_SIZE - 1);
    require(!first.continued || (parent != NULL && strstr(parent, first.trace_id) != NULL));
    /* What is passed on is valid. */
    trace_context_begin(&second, &ids, first.traceparent);
    require(second.continued && strcmp(second.trace_id, first.trace_id) == 0 &&
            second.span_id != first.span_id);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP_FREE char *text = xstrndup((const char *)data, size);
    struct http_header headers[HEADERS_MAX];
    size_t count = read_headers(text, headers);

    check_request(headers, count, size % 2 == 0);
    check_answer(headers, count, (enum http_framing)(size % 4));
    check_trace(headers, count);
    for (size_t i = 0; i < count; i++)
        if (http_list_has(headers[i].value, "close"))
            require(strcasestr(headers[i].value, "close") != NULL);
    return 0;
}
