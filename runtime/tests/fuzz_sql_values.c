/* Arrays of any JSON as array literals: what reads such a literal finds the same values in it. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json_reader.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/sql/sql_array.h"
#include "runtime/sql/sql_param.h"
#include "runtime/sql/sql_scalar.h"

#define TEXT_ARRAY  1009
#define JSONB_ARRAY 3807
#define INT4        23
#define MAX_BYTES   (1u << 22)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

/* The values as they must come out: as JSON, or each as a text. */
static void expect(const struct json_node *node, bool as_json, int depth, struct strbuf *out)
{
    enum json_type type = json_node_type(node);
    char before = '[';
    size_t len;
    const char *raw = json_node_raw(node, &len);

    if (type == JSON_NULL || (as_json && depth > 0)) {
        strbuf_append(out, raw, len);
    } else if (type == JSON_ARRAY) {
        for (const struct json_node *item = json_node_first(node); item != NULL;
             item = json_node_next(item)) {
            strbuf_append_char(out, before);
            expect(item, as_json, depth + 1, out);
            before = ',';
        }
        strbuf_append_str(out, before == '[' ? "[]" : "]");
    } else {
        const char *text = type == JSON_STRING ? json_node_string(node, &len) : raw;
        sql_scalar_put_string(text, len, out);
    }
}

static bool is_flat(const struct json_node *array)
{
    for (const struct json_node *item = json_node_first(array); item != NULL; item = json_node_next(item))
        if (json_node_type(item) == JSON_ARRAY)
            return false;
    return true;
}

static void check_array(struct sql_types *types, const struct json_node *root, unsigned oid)
{
    CLEANUP_STRBUF struct strbuf literal, decoded, expected;
    struct err err = ERR_INIT;
    struct sql_type type;
    bool null;

    strbuf_init(&literal, MAX_BYTES);
    strbuf_init(&decoded, MAX_BYTES);
    strbuf_init(&expected, MAX_BYTES);
    if (sql_param_from_json(root, types, oid, &literal, &null, &err) != 0) {
        require(err.code == ERR_INVALID && err.msg[0] != '\0');
        return;
    }
    require(!null && !strbuf_failed(&literal) && sql_types_get(types, oid, &type));
    expect(root, oid == JSONB_ARRAY, 0, &expected);
    /* A literal whose pieces differ in size is the server's to refuse. */
    if (sql_array_encode(types, &type, literal.buf, literal.len, &decoded) != 0)
        require(oid == TEXT_ARRAY && !is_flat(root));
    else if (is_flat(root) || oid == JSONB_ARRAY)
        require(strcmp(decoded.buf, expected.buf) == 0);
}

static void check_scalar(struct sql_types *types, const struct json_node *root)
{
    CLEANUP_STRBUF struct strbuf text;
    struct err err = ERR_INIT;
    enum json_type type = json_node_type(root);
    bool null;
    int rc;

    strbuf_init(&text, MAX_BYTES);
    rc = sql_param_from_json(root, types, INT4, &text, &null, &err);
    require((rc != 0) == (type == JSON_ARRAY || type == JSON_OBJECT));
    require(rc != 0 || null == (type == JSON_NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sql_types *types;
    struct json_doc *doc;
    struct err err = ERR_INIT;

    if (json_reader_parse((const char *)data, size, 64, &doc, &err) != 0)
        return 0;
    types = sql_types_new();
    check_scalar(types, json_doc_root(doc));
    if (json_node_type(json_doc_root(doc)) == JSON_ARRAY) {
        check_array(types, json_doc_root(doc), TEXT_ARRAY);
        check_array(types, json_doc_root(doc), JSONB_ARRAY);
    }
    sql_types_free(types);
    json_doc_free(doc);
    return 0;
}
