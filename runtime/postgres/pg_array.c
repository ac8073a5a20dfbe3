#include "runtime/postgres/pg_array.h"

#include <inttypes.h>

void pg_array_add_text(struct strbuf *array, const char *text)
{
    strbuf_append_str(array, array->len == 0 ? "{\"" : ",\"");
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            strbuf_append_char(array, '\\');
        strbuf_append_char(array, *text);
    }
    strbuf_append_char(array, '"');
}

void pg_array_add_number(struct strbuf *array, int64_t number)
{
    strbuf_appendf(array, "%c%" PRId64, array->len == 0 ? '{' : ',', number);
}

const char *pg_array_end(struct strbuf *array)
{
    strbuf_append_str(array, array->len == 0 ? "{}" : "}");
    return array->buf;
}
