/* The CSV part of sql_encode.h. */
#include <string.h>

#include "runtime/sql/sql_encode.h"

#define LINE_END "\r\n"

static bool needs_quotes(const char *text, size_t len)
{
    return len == 0 || memchr(text, ',', len) || memchr(text, '"', len) || memchr(text, '\r', len) ||
           memchr(text, '\n', len);
}

static void put_field(const char *text, size_t len, struct strbuf *out)
{
    if (!needs_quotes(text, len)) {
        (void)strbuf_append(out, text, len);
        return;
    }
    (void)strbuf_append_char(out, '"');
    for (const char *quote; (quote = memchr(text, '"', len)) != NULL;) {
        size_t part = (size_t)(quote - text) + 1;
        (void)strbuf_append(out, text, part);
        (void)strbuf_append_char(out, '"');
        text += part;
        len -= part;
    }
    (void)strbuf_append(out, text, len);
    (void)strbuf_append_char(out, '"');
}

static void put_line(const struct pg_result *result, int row, struct strbuf *out)
{
    for (int i = 0; i < pg_result_columns(result); i++) {
        size_t len;
        const char *text = pg_result_value(result, row, i, &len);
        if (i > 0)
            (void)strbuf_append_char(out, ',');
        if (text)
            put_field(text, len, out);
    }
    (void)strbuf_append_str(out, LINE_END);
}

int sql_encode_csv(const struct pg_result *result, struct strbuf *out)
{
    if (pg_result_columns(result) == 0)
        return 0;
    for (int i = 0; i < pg_result_columns(result); i++) {
        const char *name = pg_result_column_name(result, i);
        if (i > 0)
            (void)strbuf_append_char(out, ',');
        put_field(name, strlen(name), out);
    }
    (void)strbuf_append_str(out, LINE_END);
    for (int row = 0; row < pg_result_rows(result) && !strbuf_failed(out); row++)
        put_line(result, row, out);
    return strbuf_failed(out) ? -1 : 0;
}
