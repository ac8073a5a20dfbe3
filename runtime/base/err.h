/* err.h - the one error value of Cicada.
 *
 * A fallible function returns int: 0, or -1 with *err filled. The caller declares the struct (ERR_INIT), passes its
 * address last, never NULL. Success leaves it untouched. There is nothing to release. Programs branch on `code`,
 * never on `msg`, which is for people and may be cut at its size.
 *
 * Threads: a value, no shared state.
 */
#ifndef CICADA_BASE_ERR_H
#define CICADA_BASE_ERR_H

#include <stdint.h>

enum err_code {
    ERR_NONE = 0,
    ERR_INTERNAL, /* a bug of ours, or a state that should not exist */
    ERR_INVALID,  /* input that can never succeed as it is */
    ERR_NOT_FOUND,
    ERR_ALREADY_EXISTS,
    ERR_CONFLICT,  /* somebody else changed it; read again */
    ERR_GONE,      /* 410: the version asked for is no longer kept */
    ERR_THROTTLED, /* 429; retry_after_ms may be set */
    ERR_FORBIDDEN,
    ERR_UNAUTHORIZED,
    ERR_UNAVAILABLE, /* the peer can't answer now; trying again later may succeed */
    ERR_TIMEOUT,
    ERR_CANCELLED, /* a struct stop was set */
    ERR_TOO_LARGE, /* a named limit was exceeded */
    ERR_IO,        /* an operating system call failed; sys_errno is set */
};

struct err {
    enum err_code code;
    int sys_errno;          /* 0 if there was none */
    int64_t retry_after_ms; /* 0: unknown */
    char msg[512];
};

#define ERR_INIT                                                                                             \
    {                                                                                                        \
        0                                                                                                    \
    }

/* Fills *err and returns -1, so that `return err_set(err, ...)` reads well. */
int err_set(struct err *err, enum err_code code, const char *format, ...)
    __attribute__((cold, format(printf, 3, 4)));

/* The same for a failed system call: code ERR_IO, msg "<text>: <strerror>". */
int err_set_errno(struct err *err, int sys_errno, const char *format, ...)
    __attribute__((cold, format(printf, 3, 4)));

/* Puts "<text>: " before the message; the code stays. Returns -1. */
int err_wrap(struct err *err, const char *format, ...) __attribute__((cold, format(printf, 2, 3)));

/* For one that is declared where each request comes by: ERR_INIT would clear all of the message's room, too. */
static inline void err_clear(struct err *err)
{
    err->code = ERR_NONE;
    err->sys_errno = 0;
    err->retry_after_ms = 0;
    err->msg[0] = '\0';
}

/* "NotFound", "Conflict", ... ; never NULL. */
const char *err_code_name(enum err_code code);

#define MUST_CHECK __attribute__((warn_unused_result))

#endif
