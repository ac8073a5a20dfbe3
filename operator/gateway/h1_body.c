#include "operator/gateway/h1_body.h"

#include <string.h>

enum chunk_state {
    CHUNK_SIZE_FIRST, /* a digit is due */
    CHUNK_SIZE,
    CHUNK_SIZE_SPACE, /* some pad the size */
    CHUNK_EXTENSION,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    CHUNK_TRAILER_START,
    CHUNK_TRAILER_NAME,
    CHUNK_TRAILER_VALUE,
    CHUNK_TRAILER_LF,
    CHUNK_END_LF,
};

#define CHUNK_SIZE_MAX (UINT64_C(1) << 60)

void h1_body_init(struct h1_body *body, enum h1_framing framing, uint64_t content_length)
{
    *body = (struct h1_body){.framing = framing};
    if (framing == H1_BODY_LENGTH) {
        body->left = content_length;
        body->complete = content_length == 0;
    } else {
        body->complete = framing == H1_BODY_NONE;
    }
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static bool is_text(char c)
{
    return c == '\t' || ((unsigned char)c >= 0x20 && c != 0x7F);
}

static bool is_token(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c));
}

static bool size_digit(struct h1_body *body, char c)
{
    int digit = hex_value(c);
    if (digit < 0 || body->left >= CHUNK_SIZE_MAX / 16) {
        return false;
    }
    body->left = body->left * 16 + (uint64_t)digit;
    return true;
}

static bool size_end(struct h1_body *body, char c)
{
    if (c == '\r') {
        body->state = CHUNK_SIZE_LF;
        return true;
    }
    if (c == ';' || c == ' ') {
        body->state = c == ';' ? CHUNK_EXTENSION : CHUNK_SIZE_SPACE;
        return true;
    }
    return body->state == CHUNK_SIZE && size_digit(body, c);
}

/* One byte of framing; false: malformed. */
static bool chunk_byte(struct h1_body *body, char c)
{
    switch ((enum chunk_state)body->state) {
    case CHUNK_SIZE_FIRST:
        body->left = 0;
        body->line_bytes = 0;
        body->state = CHUNK_SIZE;
        return size_digit(body, c);
    case CHUNK_SIZE:
    case CHUNK_SIZE_SPACE:
        return ++body->line_bytes <= H1_CHUNK_LINE_BYTES_MAX && size_end(body, c);
    case CHUNK_EXTENSION:
        if (c == '\r') {
            body->state = CHUNK_SIZE_LF;
            return true;
        }
        return ++body->line_bytes <= H1_CHUNK_LINE_BYTES_MAX && is_text(c);
    case CHUNK_SIZE_LF:
        body->line_bytes = 0;
        body->state = body->left > 0 ? CHUNK_DATA : CHUNK_TRAILER_START;
        return c == '\n';
    case CHUNK_DATA:
        return false; /* not framing */
    case CHUNK_DATA_CR:
        body->state = CHUNK_DATA_LF;
        return c == '\r';
    case CHUNK_DATA_LF:
        body->state = CHUNK_SIZE_FIRST;
        return c == '\n';
    case CHUNK_TRAILER_START:
        body->state = c == '\r' ? CHUNK_END_LF : CHUNK_TRAILER_NAME;
        return c == '\r' || (++body->line_bytes <= H1_TRAILER_BYTES_MAX && is_token(c));
    case CHUNK_TRAILER_NAME:
        body->state = c == ':' ? CHUNK_TRAILER_VALUE : CHUNK_TRAILER_NAME;
        return ++body->line_bytes <= H1_TRAILER_BYTES_MAX && (c == ':' || is_token(c));
    case CHUNK_TRAILER_VALUE:
        if (c == '\r') {
            body->state = CHUNK_TRAILER_LF;
            return true;
        }
        return ++body->line_bytes <= H1_TRAILER_BYTES_MAX && is_text(c);
    case CHUNK_TRAILER_LF:
        body->state = CHUNK_TRAILER_START;
        return c == '\n';
    case CHUNK_END_LF:
        body->complete = true;
        return c == '\n';
    }
    return false;
}

static enum h1_fault feed_chunked(struct h1_body *body, char *data, size_t len, size_t *ret_body,
                                  size_t *ret_taken)
{
    size_t out = 0, in = 0;
    while (in < len && !body->complete) {
        if (body->state != CHUNK_DATA) {
            if (!chunk_byte(body, data[in++])) {
                return H1_FAULT_CHUNK;
            }
            continue;
        }
        size_t piece = len - in < body->left ? len - in : (size_t)body->left;
        memmove(data + out, data + in, piece);
        out += piece;
        in += piece;
        body->left -= piece;
        if (body->left == 0) {
            body->state = CHUNK_DATA_CR;
        }
    }
    *ret_body = out;
    *ret_taken = in;
    return H1_FAULT_NONE;
}

enum h1_fault h1_body_feed(struct h1_body *body, char *data, size_t len, size_t *ret_body, size_t *ret_taken)
{
    *ret_body = *ret_taken = 0;
    if (body->complete) {
        return H1_FAULT_NONE;
    }
    if (body->framing == H1_BODY_CHUNKED) {
        return feed_chunked(body, data, len, ret_body, ret_taken);
    }
    size_t piece = len;
    if (body->framing == H1_BODY_LENGTH) {
        piece = len < body->left ? len : (size_t)body->left;
        body->left -= piece;
        body->complete = body->left == 0;
    }
    *ret_body = *ret_taken = piece;
    return H1_FAULT_NONE;
}

bool h1_body_end_of_stream(struct h1_body *body)
{
    if (body->framing == H1_BODY_UNTIL_CLOSE) {
        body->complete = true;
    }
    return body->complete;
}
