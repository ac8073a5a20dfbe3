/* A line with the header's value, then method, path, query and Authorization, each a line, then the body. Whatever they are: the key is refused
 * with a message, or it has 1 to 255 bytes of printable ASCII and reads the same when it is written in quotes; two requests
 * that differ in a byte have different fingerprints, and the same request has one. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/host/context.h"
#include "runtime/host/idempotency_key.h"

#define LINES 5

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void check_key(const char *value)
{
    char key[IDEMPOTENCY_KEY_MAX_BYTES + 1], again[IDEMPOTENCY_KEY_MAX_BYTES + 1];
    CLEANUP_STRBUF struct strbuf quoted;
    struct err err = ERR_INIT;

    strbuf_init(&quoted, 1024);
    if (idempotency_key_parse(value, key, &err) != 0) {
        require(err.code == ERR_INVALID && err.msg[0] != '\0');
        return;
    }
    require(strlen(key) >= 1 && strlen(key) <= IDEMPOTENCY_KEY_MAX_BYTES);
    strbuf_append_char(&quoted, '"');
    for (const char *at = key; *at != '\0'; at++) {
        require(*at >= ' ' && *at <= '~');
        if (*at == '"' || *at == '\\')
            strbuf_append_char(&quoted, '\\');
        strbuf_append_char(&quoted, *at);
    }
    strbuf_append_char(&quoted, '"');
    require(idempotency_key_parse(quoted.buf, again, &err) == 0);
    require(strcmp(key, again) == 0);
}

static void fingerprint(char *const lines[LINES], const char *body, size_t len,
                        char out[IDEMPOTENCY_FINGERPRINT_SIZE])
{
    const struct http_header headers[] = {{"Content-Type", "text/plain"}, {"Authorization", lines[4]}};
    const struct request_source source = {lines[1], lines[2], lines[3], headers, ARRAY_SIZE(headers),
                                          body,     len};
    struct cicada_request request;
    struct arena arena;
    struct err err = ERR_INIT;

    arena_init(&arena);
    (void)request_init(&request, &sdk_calls, &arena, &source, &err); /* the query may be malformed */
    require(idempotency_fingerprint(&request, /* with_body= */ true, out, &err) == 0);
    require(strlen(out) == IDEMPOTENCY_FINGERPRINT_SIZE - 1);
    request_release(&request);
    arena_release(&arena);
}

/* A byte at the end of one part moves to the beginning of the next. */
static void check_fingerprint(char *lines[LINES], const char *body, size_t len)
{
    char first[IDEMPOTENCY_FINGERPRINT_SIZE], other[IDEMPOTENCY_FINGERPRINT_SIZE];
    size_t path_len = strlen(lines[2]);

    fingerprint(lines, body, len, first);
    fingerprint(lines, body, len, other);
    require(strcmp(first, other) == 0);
    if (path_len > 0) {
        CLEANUP_FREE char *query = xasprintf("%c%s", lines[2][path_len - 1], lines[3]);
        char *moved[LINES] = {lines[0], lines[1], lines[2], query, lines[4]};
        char last = lines[2][path_len - 1];
        lines[2][path_len - 1] = '\0';
        fingerprint(moved, body, len, other);
        lines[2][path_len - 1] = last;
        require(strcmp(first, other) != 0);
    }
    if (len > 0) {
        fingerprint(lines, body, len - 1, other);
        require(strcmp(first, other) != 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP_FREE char *text = xmemdup(data, size);
    char *lines[LINES];
    size_t at = 0;

    if (size == 0)
        return 0;
    for (int i = 0; i < LINES; i++) {
        size_t start = at;
        while (at < size && text[at] != '\n')
            at++;
        lines[i] = xcalloc(1, at - start + 1);
        memcpy(lines[i], text + start, at - start);
        at += at < size;
    }
    check_key(lines[0]);
    check_fingerprint(lines, text + at, size - at);
    for (int i = 0; i < LINES; i++)
        free(lines[i]);
    return 0;
}
