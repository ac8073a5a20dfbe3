/* h1_body.h - where a message's body ends, and its bytes without framing.
 *
 * Chunked bodies are decoded strictly (http_parser as Debian builds it accepts any two bytes after a chunk): extensions are
 * skipped, trailers are read and dropped, both within limits.
 *
 * Threads: none of its own; a value.
 */
#ifndef CICADA_GATEWAY_H1_BODY_H
#define CICADA_GATEWAY_H1_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "operator/gateway/h1_head.h"

#define H1_CHUNK_LINE_BYTES_MAX 1024 /* size and extensions */
#define H1_TRAILER_BYTES_MAX    8192

struct h1_body {
    enum h1_framing framing;
    uint8_t state; /* chunked: enum chunk_state of h1_body.c */
    bool complete;
    uint32_t line_bytes; /* of the current chunk line, or of all trailers */
    uint64_t left;       /* of the body, or of the current chunk */
};

void h1_body_init(struct h1_body *body, enum h1_framing framing, uint64_t content_length);

/* Moves the body bytes among data[0..len) to its front. *ret_body: how many; *ret_taken: how many raw bytes belong to the
 * message (less than len only when it is complete). Nothing of a faulty piece is to be used. */
enum h1_fault h1_body_feed(struct h1_body *body, char *data, size_t len, size_t *ret_body, size_t *ret_taken);

/* The peer ended its stream: true if that ends the body properly. */
bool h1_body_end_of_stream(struct h1_body *body);

#endif
