#include "runtime/postgres/pg_error.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>

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

/* invalid input syntax for type integer: "4111 1111" -> invalid input syntax for type integer: ""
 * From the first quote to the last, since the value may hold quotes too; other languages quote in other ways. */
static void copy_without_values(char *ret_text, size_t size, const char *text)
{
    const char *first = strchr(text, '"'), *last = strrchr(text, '"');
    bool ascii = true;
    int kept = (int)(first ? first - text : (ptrdiff_t)strlen(text));
    (void)snprintf(ret_text, size, "%.*s%s%s", kept, text, first ? "\"\"" : "", last ? last + 1 : "");
    for (const char *p = ret_text; *p; p++)
        ascii = ascii && (unsigned char)*p < 0x80;
    if (!ascii)
        (void)snprintf(ret_text, size, "data exception");
}

void pg_error_set(struct pg_error *error, enum pg_failure failure, const char *format, ...)
{
    *error = (struct pg_error){.failure = failure};
    va_list args;
    va_start(args, format);
    (void)vsnprintf(error->message, sizeof(error->message), format, args);
    va_end(args);
}

/* "unnamed portal parameter $1 = '...'", or the same without the value: the number is the same in every language. */
static int parameter_of(const char *context)
{
    const char *dollar = context ? strchr(context, '$') : NULL;
    if (!dollar)
        return 0;
    char *end;
    long number = strtol(dollar + 1, &end, 10);
    bool is_bind = *end == '\0' || str_starts_with(end, " = '");
    return is_bind && number > 0 && number <= 65535 ? (int)number : 0;
}

void pg_error_set_result(struct pg_error *error, enum pg_failure failure, const PGresult *result)
{
    const char *sqlstate = pq.PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *message = pq.PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *constraint = pq.PQresultErrorField(result, PG_DIAG_CONSTRAINT_NAME);
    const char *position = pq.PQresultErrorField(result, PG_DIAG_STATEMENT_POSITION);
    *error = (struct pg_error){.failure = failure};
    copy_text(error->sqlstate, sizeof(error->sqlstate), sqlstate ? sqlstate : "");
    if (!message)
        message = "the database reported an error";
    if (str_starts_with(error->sqlstate, "22"))
        copy_without_values(error->message, sizeof(error->message), message);
    else
        copy_text(error->message, sizeof(error->message), message);
    copy_text(error->constraint, sizeof(error->constraint), constraint ? constraint : "");
    error->position = position ? (int)strtol(position, NULL, 10) : 0;
    if (str_starts_with(error->sqlstate, "22"))
        error->parameter = parameter_of(pq.PQresultErrorField(result, PG_DIAG_CONTEXT));
}
