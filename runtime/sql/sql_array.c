#include "runtime/sql/sql_array.h"

#include <string.h>

#include "runtime/base/text.h"
#include "runtime/sql/sql_scalar.h"

#define DIMENSIONS_MAX   6 /* PostgreSQL's MAXDIM */
#define VECTOR_DELIMITER ' '

struct reader {
    struct sql_types *types;
    struct sql_type element;
    char delimiter;
    char *at, *end;
    struct strbuf *out;
};

static int put_element(struct reader *reader, char *text, size_t len)
{
    if (reader->element.kind == SQL_TYPE_ARRAY)
        return sql_array_encode(reader->types, &reader->element, text, len, reader->out);
    return sql_scalar_encode(reader->element.kind, text, len, reader->out);
}

/* "text with \" and \\", from the quote on. */
static int read_quoted(struct reader *reader)
{
    char *start = reader->at + 1, *read = start, *write = start;
    while (read < reader->end && *read != '"') {
        if (*read == '\\' && ++read == reader->end)
            return -1;
        *write++ = *read++;
    }
    if (read == reader->end)
        return -1;
    reader->at = read + 1;
    return put_element(reader, start, (size_t)(write - start));
}

static int read_plain(struct reader *reader)
{
    char *start = reader->at;
    while (reader->at < reader->end && *reader->at != reader->delimiter && !strchr("{}\"\\", *reader->at))
        reader->at++;
    size_t len = (size_t)(reader->at - start);
    if (len == 0)
        return -1;
    if (!ascii_equal_nocase(start, len, "NULL"))
        return put_element(reader, start, len);
    (void)strbuf_append_str(reader->out, "null");
    return 0;
}

/* An element, after as many opening braces as stand before it. */
static int read_element(struct reader *reader, int *depth)
{
    for (; reader->at < reader->end && *reader->at == '{'; reader->at++) {
        if (++*depth > DIMENSIONS_MAX)
            return -1;
        (void)strbuf_append_char(reader->out, '[');
    }
    if (*depth == 0 || reader->at == reader->end)
        return -1;
    return *reader->at == '"' ? read_quoted(reader) : read_plain(reader);
}

/* What stands behind an element: closing braces, and a delimiter unless that was the end. */
static int read_separator(struct reader *reader, int *depth)
{
    for (; reader->at < reader->end && *reader->at == '}'; reader->at++) {
        if (--*depth < 0)
            return -1;
        (void)strbuf_append_char(reader->out, ']');
    }
    if (*depth == 0)
        return reader->at == reader->end ? 0 : -1;
    if (reader->at == reader->end || *reader->at != reader->delimiter)
        return -1;
    reader->at++;
    (void)strbuf_append_char(reader->out, ',');
    return 0;
}

/* [0:2][1:1]= says where indices begin; JSON's begin at 0. */
static int skip_bounds(struct reader *reader)
{
    if (reader->at == reader->end || *reader->at != '[')
        return 0;
    char *equal = memchr(reader->at, '=', (size_t)(reader->end - reader->at));
    if (!equal)
        return -1;
    reader->at = equal + 1;
    return 0;
}

static int read_array(struct reader *reader)
{
    int depth = 0;
    if (skip_bounds(reader) < 0)
        return -1;
    if (reader->end - reader->at == 2 && memcmp(reader->at, "{}", 2) == 0) {
        (void)strbuf_append_str(reader->out, "[]");
        return 0;
    }
    do {
        if (read_element(reader, &depth) < 0 || read_separator(reader, &depth) < 0)
            return -1;
    } while (depth > 0);
    return 0;
}

/* "1 2 3", as int2vector and oidvector write it. */
static int read_vector(struct reader *reader)
{
    (void)strbuf_append_char(reader->out, '[');
    while (reader->at < reader->end) {
        if (read_plain(reader) < 0)
            return -1;
        if (reader->at == reader->end)
            break;
        /* Behind the separator stands another element. */
        if (*reader->at != reader->delimiter || ++reader->at == reader->end)
            return -1;
        (void)strbuf_append_char(reader->out, ',');
    }
    (void)strbuf_append_char(reader->out, ']');
    return 0;
}

int sql_array_encode(struct sql_types *types, const struct sql_type *type, char *text, size_t len,
                     struct strbuf *out)
{
    struct reader reader = {
        .types = types, .delimiter = type->delimiter, .at = text, .end = text + len, .out = out};
    if (!sql_types_get(types, type->element_oid, &reader.element) || reader.element.kind == SQL_TYPE_SERVER)
        return -1;
    return type->delimiter == VECTOR_DELIMITER ? read_vector(&reader) : read_array(&reader);
}
