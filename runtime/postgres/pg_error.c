#include "runtime/postgres/pg_error.h"

#include <stdarg.h>
#include <stdbool.h>

#include "runtime/base/text.h"

/* Cuts at a character's start, so that the text stays UTF-8. */
static void copy_text(char *ret_text, size_t size, const char *text)
{
    size_t len = strnlen(text, size);
    if (len == size) {
        len = size - 1;
        while (len > 0 && ((unsigned char)text[len] & 0xC0) == 0x80)
            len--;
    }
    memcpy(ret_text, text, len);
    ret_text[len] = '\0';
}

/* invalid input syntax for type integer: "4111 1111" -> invalid input syntax for type integer: "" */
static void drop_quoted(char *text)
{
    char *out = text;
    bool inside = false;
    for (const char *p = text; *p; p++) {
        if (*p == '"')
            inside = !inside;
        if (*p == '"' || !inside)
            *out++ = *p;
    }
    *out = '\0';
}

void pg_error_set(struct pg_error *error, enum pg_failure failure, const char *format, ...)
{
    *error = (struct pg_error){.failure = failure};
    va_list args;
    va_start(args, format);
    (void)vsnprintf(error->message, sizeof(error->message), format, args);
    va_end(args);
}

void pg_error_set_result(struct pg_error *error, enum pg_failure failure, const PGresult *result)
{
    const char *sqlstate = pq.PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *message = pq.PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *constraint = pq.PQresultErrorField(result, PG_DIAG_CONSTRAINT_NAME);
    *error = (struct pg_error){.failure = failure};
    copy_text(error->sqlstate, sizeof(error->sqlstate), sqlstate ? sqlstate : "");
    copy_text(error->message, sizeof(error->message), message ? message : "the database reported an error");
    copy_text(error->constraint, sizeof(error->constraint), constraint ? constraint : "");
    if (str_starts_with(error->sqlstate, "22"))
        drop_quoted(error->message);
}
