#include "runtime/sql/sql_param.h"

#include <string.h>

#define DIMENSIONS_MAX   6   /* PostgreSQL's MAXDIM */
#define VECTOR_DELIMITER ' ' /* int2vector and oidvector: no arrays to their users */

static struct sql_type type_of(struct sql_types *types, unsigned oid)
{
    struct sql_type type;

    if (!sql_types_get(types, oid, &type))
        type = (struct sql_type){.oid = oid, .kind = SQL_TYPE_TEXT};
    return type;
}

/* The text of a value that is no array and no object, or of any value for json. */
static void append_plain(const struct json_node *value, bool as_json, struct strbuf *out)
{
    bool is_string = json_node_type(value) == JSON_STRING && !as_json;
    size_t len;
    const char *text = is_string ? json_node_string(value, &len) : json_node_raw(value, &len);

    strbuf_append(out, text, len);
}

/* An element of an array literal, in quotes, which every type understands. */
static void append_quoted(const char *text, size_t len, struct strbuf *out)
{
    size_t copied = 0;

    strbuf_append_char(out, '"');
    for (size_t i = 0; i < len; i++) {
        if (text[i] != '"' && text[i] != '\\')
            continue;
        strbuf_append(out, text + copied, i - copied);
        strbuf_append_char(out, '\\');
        copied = i;
    }
    strbuf_append(out, text + copied, len - copied);
    strbuf_append_char(out, '"');
}

static int append_array(const struct json_node *array, struct sql_types *types, const struct sql_type *type,
                        int dimensions, struct strbuf *out, struct err *err);

static int append_element(const struct json_node *value, struct sql_types *types, const struct sql_type *type,
                          const struct sql_type *element, int dimensions, struct strbuf *out, struct err *err)
{
    enum json_type json = json_node_type(value);
    bool as_json = element->kind == SQL_TYPE_JSON;
    size_t len;
    const char *text;

    if (json == JSON_NULL) {
        strbuf_append_str(out, "NULL");
        return 0;
    }
    if (json == JSON_ARRAY && !as_json)
        return append_array(value, types, type, dimensions + 1, out, err);
    if (json == JSON_OBJECT && !as_json)
        return err_set(err, ERR_INVALID, "an element must not be an object");
    text = json == JSON_STRING && !as_json ? json_node_string(value, &len) : json_node_raw(value, &len);
    append_quoted(text, len, out);
    return 0;
}

/* Dimensions are nested arrays, in JSON as in the literal. */
static int append_array(const struct json_node *array, struct sql_types *types, const struct sql_type *type,
                        int dimensions, struct strbuf *out, struct err *err)
{
    struct sql_type element = type_of(types, type->element_oid);
    const char *separator = "";
    const char delimiter[] = {type->delimiter, '\0'};

    if (dimensions > DIMENSIONS_MAX)
        return err_set(err, ERR_INVALID, "has more than %d dimensions", DIMENSIONS_MAX);
    strbuf_append_char(out, '{');
    for (const struct json_node *item = json_node_first(array); item != NULL; item = json_node_next(item)) {
        strbuf_append_str(out, separator);
        if (append_element(item, types, type, &element, dimensions, out, err) != 0)
            return -1;
        separator = delimiter;
    }
    strbuf_append_char(out, '}');
    return 0;
}

int sql_param_from_json(const struct json_node *value, struct sql_types *types, unsigned type_oid,
                        struct strbuf *out, bool *ret_null, struct err *err)
{
    struct sql_type type = type_of(types, type_oid);
    enum json_type json = json_node_type(value);

    *ret_null = json == JSON_NULL;
    if (*ret_null)
        return 0;
    if (type.kind == SQL_TYPE_JSON) {
        append_plain(value, true, out);
        return 0;
    }
    if (json == JSON_OBJECT)
        return err_set(err, ERR_INVALID, "must not be an object");
    if (json == JSON_ARRAY && (type.kind != SQL_TYPE_ARRAY || type.delimiter == VECTOR_DELIMITER))
        return err_set(err, ERR_INVALID, "must not be an array");
    if (json == JSON_ARRAY)
        return append_array(value, types, &type, /* dimensions= */ 1, out, err);
    append_plain(value, false, out);
    return 0;
}

void sql_param_from_texts(const char *const *texts, size_t count, char delimiter, struct strbuf *out)
{
    strbuf_append_char(out, '{');
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            strbuf_append_char(out, delimiter);
        append_quoted(texts[i], strlen(texts[i]), out);
    }
    strbuf_append_char(out, '}');
}
