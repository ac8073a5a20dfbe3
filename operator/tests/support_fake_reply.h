/* support_fake_reply.h - one answer of the fake API server: its parts, and how they go out. */
#ifndef CICADA_TESTS_SUPPORT_FAKE_REPLY_H
#define CICADA_TESTS_SUPPORT_FAKE_REPLY_H

#include "operator/tests/support_fake_apiserver.h"

#define FAKE_REQUEST_MAX_BYTES (16u << 20)

/* An answer that owns its strings. */
struct fake_reply {
    int status;
    char *match, *headers, *body;
    size_t chunk_bytes;
    enum fake_ending ending;
    int times;
};

void fake_reply_init(struct fake_reply *reply, const struct fake_answer *answer);
void fake_reply_copy(struct fake_reply *reply, const struct fake_reply *from);
void fake_reply_release(struct fake_reply *reply);

/* False: the peer has gone. */
bool fake_reply_send_head(int fd, const struct fake_reply *reply, bool chunked);
bool fake_reply_send_body(int fd, const struct fake_reply *reply, bool chunked);
bool fake_reply_send_chunk(int fd, const char *data, size_t len); /* len 0: the last */

#endif
