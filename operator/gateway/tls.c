#include "operator/gateway/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>

#include "operator/gateway/certificates.h"
#include "operator/gateway/tls_tickets.h"
#include "runtime/base/mem.h"

#define TLS12_CIPHERS "ECDHE+AESGCM:ECDHE+CHACHA20"

struct tls_context {
    SSL_CTX *ssl;
    struct certificate *(*find)(void *arg, const char *name);
    void *arg;
    char record[TLS_RECORD_BYTES_MAX]; /* what is written in one record, gathered */
};

struct tls_session {
    SSL *ssl;
    struct tls_context *context;
    const char *failure;
    bool handshake_needs_room, read_needs_room, write_needs_input;
    bool end_sent;
};

/* ---- what a client asks for ---- */

static int select_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                           const unsigned char *in, unsigned in_len, void *arg)
{
    static const unsigned char ours[] = "\x08http/1.1";
    (void)ssl, (void)arg;
    unsigned char *chosen;
    if (SSL_select_next_proto(&chosen, out_len, ours, sizeof(ours) - 1, in, in_len) !=
        OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL; /* RFC 7301: no_application_protocol */
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* Called for a client without a name, too. There is no certificate that is everybody's: see README.md. */
static int select_certificate(SSL *ssl, int *alert, void *arg)
{
    struct tls_context *context = arg;
    struct tls_session *session = SSL_get_app_data(ssl);
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    struct certificate *certificate = name ? context->find(context->arg, name) : NULL;
    bool used = certificate && certificate_use(certificate, ssl);
    if (!used) {
        session->failure = certificate ? "certificate" : name ? "unknown_name" : "no_name";
        *alert = certificate ? SSL_AD_INTERNAL_ERROR : SSL_AD_UNRECOGNIZED_NAME;
    }
    certificate_unref(certificate);
    return used ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* ---- contexts ---- */

static bool configure(SSL_CTX *ssl, struct tls_context *context, const struct tls_settings *settings)
{
    static const unsigned char session_context[] = "cicada";
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    /* Idle connections hold no buffers; what could not be written is offered again from where it is kept by then. */
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF); /* tickets: the client keeps them */
    tls_tickets_use(settings->tickets, ssl);
    SSL_CTX_set_verify(ssl, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_alpn_select_cb(ssl, select_protocol, NULL);
    SSL_CTX_set_tlsext_servername_callback(ssl, select_certificate);
    SSL_CTX_set_tlsext_servername_arg(ssl, context);
    return SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION) == 1 &&
           SSL_CTX_set_cipher_list(ssl, TLS12_CIPHERS) == 1 &&
           SSL_CTX_set_session_id_context(ssl, session_context, sizeof(session_context) - 1) == 1;
}

int tls_context_new(const struct tls_settings *settings, struct tls_context **ret_context, struct err *err)
{
    struct tls_context *context = xcalloc(1, sizeof(*context));
    context->find = settings->find;
    context->arg = settings->arg;
    context->ssl = SSL_CTX_new(TLS_server_method());
    if (!context->ssl || !configure(context->ssl, context, settings)) {
        const char *reason = ERR_reason_error_string(ERR_peek_last_error());
        tls_context_free(context);
        return err_set(err, ERR_INTERNAL, "TLS: %s", reason ? reason : "the library does not start");
    }
    *ret_context = context;
    return 0;
}

void tls_context_free(struct tls_context *context)
{
    if (context) {
        SSL_CTX_free(context->ssl);
        free(context);
    }
}

/* ---- sessions ---- */

struct tls_session *tls_session_new(struct tls_context *context, int fd)
{
    struct tls_session *session = xcalloc(1, sizeof(*session));
    session->context = context;
    session->ssl = SSL_new(context->ssl);
    if (!session->ssl || SSL_set_fd(session->ssl, fd) != 1) {
        tls_session_free(session);
        ERR_clear_error();
        return NULL;
    }
    SSL_set_app_data(session->ssl, session);
    SSL_set_accept_state(session->ssl);
    return session;
}

void tls_session_free(struct tls_session *session)
{
    if (session) {
        SSL_free(session->ssl);
        free(session);
    }
}

static const char *failure_of(int code, unsigned long error)
{
    static const struct {
        int reason;
        const char *name;
    } failures[] = {
        {SSL_R_UNEXPECTED_EOF_WHILE_READING, "closed"}, {SSL_R_UNSUPPORTED_PROTOCOL, "version"},
        {SSL_R_WRONG_VERSION_NUMBER, "version"},        {SSL_R_VERSION_TOO_LOW, "version"},
        {SSL_R_NO_APPLICATION_PROTOCOL, "protocol"},    {SSL_R_NO_SHARED_CIPHER, "cipher"},
    };
    const char *failure = code == SSL_ERROR_SYSCALL ? "closed" : "malformed";
    for (size_t i = 0; i < ARRAY_SIZE(failures); i++) {
        if (ERR_GET_REASON(error) == failures[i].reason) {
            failure = failures[i].name;
        }
    }
    return failure;
}

enum tls_progress tls_session_handshake(struct tls_session *session)
{
    ERR_clear_error();
    session->handshake_needs_room = false;
    int result = SSL_do_handshake(session->ssl);
    if (result == 1) {
        return TLS_DONE;
    }
    int code = SSL_get_error(session->ssl, result);
    session->handshake_needs_room = code == SSL_ERROR_WANT_WRITE;
    if (code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE) {
        return TLS_WAITS;
    }
    if (!session->failure) {
        unsigned long error = ERR_peek_error();
        bool alerted = ERR_GET_REASON(error) >= SSL_AD_REASON_OFFSET;
        session->failure = alerted ? "refused" : failure_of(code, error);
    }
    ERR_clear_error();
    return TLS_FAILED;
}

bool tls_session_resumed(const struct tls_session *session)
{
    return SSL_session_reused(session->ssl) == 1;
}

const char *tls_session_failure(const struct tls_session *session)
{
    return session->failure ? session->failure : "malformed";
}

const char *tls_session_name(const struct tls_session *session)
{
    return SSL_get_servername(session->ssl, TLSEXT_NAMETYPE_host_name);
}

/* ---- records ---- */

ssize_t tls_session_read(struct tls_session *session, void *buffer, size_t size)
{
    size_t got;
    ERR_clear_error();
    session->read_needs_room = false;
    if (SSL_read_ex(session->ssl, buffer, size, &got) == 1) {
        return (ssize_t)got;
    }
    int code = SSL_get_error(session->ssl, 0);
    ERR_clear_error();
    if (code == SSL_ERROR_ZERO_RETURN) {
        return 0;
    }
    session->read_needs_room = code == SSL_ERROR_WANT_WRITE; /* a change of keys is to be confirmed */
    errno = code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE ? EAGAIN : EPROTO;
    return -1;
}

/* The next record's worth of what iov names, without its first `skip` bytes: heads and the pieces that frame a body share a record. */
static size_t gather(const struct iovec *iov, int count, size_t skip, char *record)
{
    size_t len = 0;
    for (int i = 0; i < count && len < TLS_RECORD_BYTES_MAX; i++) {
        size_t offset = skip < iov[i].iov_len ? skip : iov[i].iov_len;
        size_t left = iov[i].iov_len - offset, room = TLS_RECORD_BYTES_MAX - len;
        size_t taken = left < room ? left : room;
        skip -= offset;
        if (taken > 0) {
            memcpy(record + len, (const char *)iov[i].iov_base + offset, taken);
            len += taken;
        }
    }
    return len;
}

ssize_t tls_session_write(struct tls_session *session, const struct iovec *iov, int count)
{
    char *record = session->context->record;
    size_t total = 0, len, sent;
    session->write_needs_input = false;
    while ((len = gather(iov, count, total, record)) > 0) {
        ERR_clear_error();
        if (SSL_write_ex(session->ssl, record, len, &sent) != 1) {
            int code = SSL_get_error(session->ssl, 0);
            ERR_clear_error();
            session->write_needs_input = code == SSL_ERROR_WANT_READ;
            return code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE ? (ssize_t)total : -1;
        }
        total += sent; /* less than len if what was half written before was shorter */
    }
    return (ssize_t)total;
}

enum tls_progress tls_session_end(struct tls_session *session)
{
    if (session->end_sent) {
        return TLS_DONE;
    }
    ERR_clear_error();
    int result = SSL_shutdown(session->ssl);
    int code = result < 0 ? SSL_get_error(session->ssl, result) : SSL_ERROR_NONE;
    ERR_clear_error();
    session->end_sent = code != SSL_ERROR_WANT_WRITE; /* anything else: nobody is there to be told */
    return session->end_sent ? TLS_DONE : TLS_WAITS;
}

bool tls_session_read_needs_room(const struct tls_session *session)
{
    return session->read_needs_room || session->handshake_needs_room;
}

bool tls_session_write_needs_input(const struct tls_session *session)
{
    return session->write_needs_input;
}
