/* tls.h - TLS on a socket that an epoll loop watches: handshake, records, the end. OpenSSL behind an interface of ours.
 *
 * A context belongs to one loop, a session to one connection of it. Nothing blocks: what can't go on says what it waits for. One
 * reading takes at most one record, so that nothing stays within the library while the loop waits for the descriptor:
 * readings are of TLS_RECORD_BYTES_MAX at least.
 *
 * TLS 1.2 and 1.3; ALPN http/1.1; tickets (tls_tickets.h); no renegotiation, no early data, no client
 * certificates. A name that has no certificate is refused by the alert unrecognized_name.
 *
 * Threads: a context and its sessions belong to their loop's thread. The process ignores SIGPIPE.
 */
#ifndef CICADA_GATEWAY_TLS_H
#define CICADA_GATEWAY_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "runtime/base/err.h"

#define TLS_RECORD_BYTES_MAX 16384

struct certificate;
struct tls_context;
struct tls_session;
struct tls_tickets;

struct tls_settings {
    /* The certificate for the name that a client asks for, with a reference; NULL: there is none. */
    struct certificate *(*find)(void *arg, const char *name);
    void *arg;
    struct tls_tickets *tickets; /* of all contexts of a gateway */
};

int tls_context_new(const struct tls_settings *settings, struct tls_context **ret_context,
                    struct err *err) MUST_CHECK;
void tls_context_free(struct tls_context *context); /* NULL is fine; no session is left */

/* NULL: out of descriptors or memory within the library. The descriptor stays the caller's. */
struct tls_session *tls_session_new(struct tls_context *context, int fd);
void tls_session_free(struct tls_session *session); /* NULL is fine; sends nothing */

enum tls_progress { TLS_DONE, TLS_WAITS, TLS_FAILED };
/* TLS_FAILED: an alert was sent if there was anybody to send it to. */
enum tls_progress tls_session_handshake(struct tls_session *session);
bool tls_session_resumed(const struct tls_session *session);
/* Why the handshake failed, for metrics: a short literal. */
const char *tls_session_failure(const struct tls_session *session);
/* What the client asked for; NULL: nothing. Borrowed. */
const char *tls_session_name(const struct tls_session *session);

/* After the handshake. > 0: bytes; 0: the stream's end (told by the peer); -1: errno EAGAIN, or EPROTO if the connection is broken. */
ssize_t tls_session_read(struct tls_session *session, void *buffer, size_t size);
/* Bytes taken, from the front of what iov names; the rest is to be offered again, as the first bytes of a later call. -1: broken. */
ssize_t tls_session_write(struct tls_session *session, const struct iovec *iov, int count);
/* Says that nothing more comes (close_notify). TLS_WAITS: there is no room now. */
enum tls_progress tls_session_end(struct tls_session *session);

/* What the last call that did not get on waits for. Reading may wait for room, writing for input. */
bool tls_session_read_needs_room(const struct tls_session *session);
bool tls_session_write_needs_input(const struct tls_session *session);

#endif
