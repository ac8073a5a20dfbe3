#include "runtime/host/termination.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/mem.h"

/* Escapes make at most six bytes of one: a message of this length always fits. */
#define MESSAGE_MAX_BYTES 600u

void termination_print(const char *reason, const char *message, struct strbuf *out)
{
    strbuf_append_str(out, "{\"reason\":");
    strbuf_append_json_string(out, reason, strlen(reason));
    strbuf_append_str(out, ",\"message\":");
    strbuf_append_json_string(out, message, strnlen(message, MESSAGE_MAX_BYTES));
    strbuf_append_char(out, '}');
}

int termination_write(const char *path, const char *reason, const char *message, struct err *err)
{
    CLEANUP_STRBUF struct strbuf text;
    CLEANUP_FD int fd = -1;
    ssize_t written;

    strbuf_init(&text, TERMINATION_MAX_BYTES);
    termination_print(reason, message, &text);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return err_set_errno(err, errno, "%s", path);
    written = write(fd, text.buf, text.len);
    if (written != (ssize_t)text.len)
        return err_set_errno(err, written < 0 ? errno : ENOSPC, "%s", path);
    return 0;
}
