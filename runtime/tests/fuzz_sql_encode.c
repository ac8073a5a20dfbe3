/* The first byte picks a type, the rest is a value of it: it is refused, or made valid JSON. And lines as the elements of an
 * array, written as the server writes them, come back as they were. */
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/json.h"
#include "runtime/base/json_reader.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/sql/sql_array.h"
#include "runtime/sql/sql_scalar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define OUT_MAX_BYTES (16u << 20)
#define DEPTH         64

#define DATE_OID            1082
#define TIMESTAMP_OID       1114
#define TIMESTAMPTZ_OID     1184
#define TEXT_ARRAY_OID      1009
#define BOX_ARRAY_OID       1020
#define BOOL_ARRAY_OID      1000
#define DATE_ARRAY_OID      1182
#define STAMP_ARRAY_OID     1185
#define OID_VECTOR_OID      30
#define INT2_VECTOR_ARR_OID 1006

static void require(bool truth)
{
    if (!truth)
        abort();
}

/* Numbers are raw when they begin like one, which is true of what the server writes only. */
static bool holds_numbers(unsigned oid)
{
    return oid == INT2_VECTOR_ARR_OID;
}

static void check_value(struct sql_types *types, unsigned oid, char *text, size_t len)
{
    CLEANUP_STRBUF struct strbuf out;
    struct err err = ERR_INIT;
    struct sql_type type;
    bool utf8 = is_valid_utf8(text, len);
    strbuf_init(&out, OUT_MAX_BYTES);
    require(sql_types_get(types, oid, &type));
    int failed = type.kind == SQL_TYPE_ARRAY ? sql_array_encode(types, &type, text, len, &out)
                                             : sql_scalar_encode(type.kind, text, len, &out);
    require(!strbuf_failed(&out));
    require(!failed || type.kind == SQL_TYPE_ARRAY || out.len == 0);
    if (!failed && utf8 && !holds_numbers(oid))
        require(json_check(out.buf, out.len, DEPTH, &err) == 0);
}

static void put_element(struct strbuf *out, const char *text, size_t len)
{
    (void)strbuf_append_char(out, '"');
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '"' || text[i] == '\\')
            (void)strbuf_append_char(out, '\\');
        (void)strbuf_append_char(out, text[i]);
    }
    (void)strbuf_append_char(out, '"');
}

/* The lines of text as {"line","line"}. */
static void put_lines(struct strbuf *out, const char *text)
{
    (void)strbuf_append_char(out, '{');
    for (const char *line = text; *line;) {
        size_t len = strcspn(line, "\n");
        if (line > text)
            (void)strbuf_append_char(out, ',');
        put_element(out, line, len);
        line += len + (line[len] == '\n');
    }
    (void)strbuf_append_char(out, '}');
}

static void check_lines(struct sql_types *types, const char *text)
{
    CLEANUP_STRBUF struct strbuf array, out;
    struct sql_type type;
    struct json_doc *doc;
    struct err err = ERR_INIT;
    strbuf_init(&array, OUT_MAX_BYTES);
    strbuf_init(&out, OUT_MAX_BYTES);
    put_lines(&array, text);
    require(sql_types_get(types, TEXT_ARRAY_OID, &type));
    require(sql_array_encode(types, &type, array.buf, array.len, &out) == 0);
    require(json_reader_parse(out.buf, out.len, DEPTH, &doc, &err) == 0);
    const struct json_node *node = json_node_first(json_doc_root(doc));
    for (const char *line = text; *line; node = json_node_next(node)) {
        size_t len = strcspn(line, "\n"), is_len;
        require(node != NULL);
        const char *is = json_node_string(node, &is_len);
        require(is && is_len == len && memcmp(is, line, len) == 0);
        line += len + (line[len] == '\n');
    }
    require(node == NULL);
    json_doc_free(doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const unsigned oids[] = {DATE_OID,       TIMESTAMP_OID,      TIMESTAMPTZ_OID, TEXT_ARRAY_OID,
                                    BOX_ARRAY_OID,  BOOL_ARRAY_OID,     DATE_ARRAY_OID,  STAMP_ARRAY_OID,
                                    OID_VECTOR_OID, INT2_VECTOR_ARR_OID};
    if (size == 0)
        return 0;
    CLEANUP_FREE char *text = xstrndup((const char *)data + 1, size - 1);
    struct sql_types *types = sql_types_new();
    if (is_valid_utf8(text, strlen(text)))
        check_lines(types, text);
    check_value(types, oids[data[0] % ARRAY_SIZE(oids)], text, strlen(text));
    sql_types_free(types);
    return 0;
}
