#include "runtime/host/response_json.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/text.h"
#include "runtime/host/database.h"

/* Types whose text form is a JSON value already, by PostgreSQL's fixed OIDs. */
enum {
    OID_BOOL = 16,
    OID_INT8 = 20,
    OID_INT2 = 21,
    OID_INT4 = 23,
    OID_OID = 26,
    OID_JSON = 114,
    OID_FLOAT4 = 700,
    OID_FLOAT8 = 701,
    OID_NUMERIC = 1700,
    OID_JSONB = 3802,
};

/* What stands before a value: a comma and the member's name, as the place demands. False: a mistake. */
static bool begin_value(struct cicada_response *response, const char *name)
{
    int depth = response->depth;
    bool in_object;

    if (!response->writing) { /* a new document replaces any body so far */
        response_clear_body(response);
        response->writing = true;
        depth = 0;
    }
    in_object = depth > 0 && !response->in_array[depth];
    if (in_object != (name != NULL)) {
        response_mistake(response,
                         in_object ? "JSON: a member of an object needs a name"
                                   : "JSON: \"%.40s\": only members of objects have names",
                         name);
        return false;
    }
    if (depth == 0 && response->has_items[0]) {
        response_mistake(response, "JSON: a second value after the document's end");
        return false;
    }
    if (response->has_items[depth])
        strbuf_append_char(&response->body, ',');
    response->has_items[depth] = true;
    if (name != NULL) {
        strbuf_append_json_string(&response->body, name, strlen(name));
        strbuf_append_char(&response->body, ':');
    }
    return true;
}

void response_write_begin(struct cicada_response *response, const char *name, bool array)
{
    if (!begin_value(response, name))
        return;
    if (response->depth == RESPONSE_DEPTH_MAX) {
        response_mistake(response, "JSON: deeper than %d", RESPONSE_DEPTH_MAX);
        return;
    }
    response->depth++;
    response->in_array[response->depth] = array;
    response->has_items[response->depth] = false;
    strbuf_append_char(&response->body, array ? '[' : '{');
}

void response_write_end(struct cicada_response *response)
{
    if (response->depth == 0) {
        response_mistake(response, "JSON: cicada_write_end() without a begin");
        return;
    }
    strbuf_append_char(&response->body, response->in_array[response->depth] ? ']' : '}');
    response->depth--;
}

static void write_text(struct cicada_response *response, const char *name, const char *json, size_t len)
{
    if (begin_value(response, name))
        strbuf_append(&response->body, json, len);
}

void response_write_string(struct cicada_response *response, const char *name, const char *text, size_t len)
{
    if (text == NULL)
        response_write_null(response, name);
    else if (begin_value(response, name))
        strbuf_append_json_string(&response->body, text, len == SIZE_MAX ? strlen(text) : len);
}

void response_write_int64(struct cicada_response *response, const char *name, int64_t value)
{
    char text[FORMAT_INT64_SIZE];
    write_text(response, name, text, format_int64(value, text));
}

void response_write_double(struct cicada_response *response, const char *name, double value)
{
    char text[FORMAT_DOUBLE_SIZE];

    if (isfinite(value))
        write_text(response, name, text, format_double(value, text));
    else
        response_write_null(response, name);
}

void response_write_bool(struct cicada_response *response, const char *name, bool value)
{
    write_text(response, name, value ? "true" : "false", value ? 4 : 5);
}

void response_write_null(struct cicada_response *response, const char *name)
{
    write_text(response, name, "null", 4);
}

void response_write_raw(struct cicada_response *response, const char *name, const char *json, size_t len)
{
    struct err err = ERR_INIT;

    if (json_check(json, len, RESPONSE_DEPTH_MAX, &err) != 0)
        response_mistake(response, "JSON: cicada_write_raw(): %s", err.msg);
    else
        write_text(response, name, json, len);
}

/* numeric and float have NaN and Infinity, which JSON lacks: they are strings there, as to_json() has it. */
static bool is_json_number(const char *text)
{
    return isdigit((unsigned char)text[*text == '-']) != 0;
}

static void write_field(struct cicada_response *response, const struct cicada_result *result, int row,
                        int column)
{
    const char *name = result_column_name(result, column);
    size_t len;
    const char *text = result_text(result, row, column, &len);

    if (text == NULL) {
        response_write_null(response, name);
        return;
    }
    switch (pg_result_column_type(result->rows, column)) {
    case OID_BOOL:
        response_write_bool(response, name, text[0] == 't');
        return;
    case OID_JSON:
    case OID_JSONB:
        write_text(response, name, text, len);
        return;
    case OID_INT2:
    case OID_INT4:
    case OID_INT8:
    case OID_OID:
    case OID_FLOAT4:
    case OID_FLOAT8:
    case OID_NUMERIC:
        if (is_json_number(text)) {
            write_text(response, name, text, len);
            return;
        }
        break;
    default:
        break;
    }
    response_write_string(response, name, text, len);
}

void response_write_row(struct cicada_response *response, const char *name,
                        const struct cicada_result *result, int32_t row)
{
    if (row < 0 || row >= result_rows(result)) {
        response_mistake(response, "JSON: cicada_write_row(): there is no row %d", (int)row);
        return;
    }
    response_write_begin(response, name, /* array= */ false);
    for (int32_t column = 0; column < result_columns(result); column++)
        write_field(response, result, row, column);
    response_write_end(response);
}
