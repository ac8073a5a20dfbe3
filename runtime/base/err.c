#include "runtime/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/text.h"

/* Formats apart from *err, as the arguments may point into err->msg. */
static void __attribute__((format(printf, 2, 0)))
set_message(struct err *err, const char *format, va_list args, const char *separator, const char *suffix)
{
    char message[sizeof(err->msg)];
    int len = vsnprintf(message, sizeof(message), format, args);
    if (len < 0) {
        len = 0;
        message[0] = '\0';
    }
    size_t used = (size_t)len < sizeof(message) ? (size_t)len : sizeof(message) - 1;
    if (used < sizeof(message) - 1) {
        int more = snprintf(message + used, sizeof(message) - used, "%s%s", separator, suffix);
        size_t room = sizeof(message) - 1 - used;
        used += (size_t)more < room ? (size_t)more : room;
    }
    if (used == sizeof(message) - 1) {
        message[utf8_cut_len(message, used)] = '\0'; /* messages go into JSON */
    }
    memcpy(err->msg, message, sizeof(message));
}

int err_set(struct err *err, enum err_code code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    set_message(err, format, args, "", "");
    va_end(args);
    err->code = code;
    err->sys_errno = 0;
    err->retry_after_ms = 0;
    return -1;
}

int err_set_errno(struct err *err, int sys_errno, const char *format, ...)
{
    char buffer[128];
    va_list args;
    va_start(args, format);
    set_message(err, format, args, ": ", strerror_r(sys_errno, buffer, sizeof(buffer)));
    va_end(args);
    err->code = ERR_IO;
    err->sys_errno = sys_errno;
    err->retry_after_ms = 0;
    return -1;
}

int err_wrap(struct err *err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    set_message(err, format, args, ": ", err->msg);
    va_end(args);
    return -1;
}

const char *err_code_name(enum err_code code)
{
    switch (code) {
    case ERR_NONE:
        return "None";
    case ERR_INTERNAL:
        return "Internal";
    case ERR_INVALID:
        return "Invalid";
    case ERR_NOT_FOUND:
        return "NotFound";
    case ERR_ALREADY_EXISTS:
        return "AlreadyExists";
    case ERR_CONFLICT:
        return "Conflict";
    case ERR_GONE:
        return "Gone";
    case ERR_THROTTLED:
        return "Throttled";
    case ERR_FORBIDDEN:
        return "Forbidden";
    case ERR_UNAUTHORIZED:
        return "Unauthorized";
    case ERR_UNAVAILABLE:
        return "Unavailable";
    case ERR_TIMEOUT:
        return "Timeout";
    case ERR_CANCELLED:
        return "Cancelled";
    case ERR_TOO_LARGE:
        return "TooLarge";
    case ERR_IO:
        return "IO";
    }
    return "Unknown";
}
