#include "runtime/sql/sql_encode.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/sql/sql_array.h"
#include "runtime/sql/sql_scalar.h"
#include "runtime/sql/sql_server.h"

#define KEYS_MAX_BYTES    (1u << 20)  /* 1,664 columns with names of 63 bytes, each escaped */
#define SCRATCH_MAX_BYTES (64u << 20) /* one value: a result has no more */

struct column {
    struct sql_type type;
    size_t key_start, key_len; /* within encoder.keys: ,"name": */
    struct pg_result *server;  /* SQL_TYPE_SERVER: its values as JSON, without the NULL ones */
    int server_next;           /* row of `server` that is the next value */
};

struct encoder {
    const struct pg_result *result;
    struct sql_types *types;
    struct strbuf *out;
    struct pg_error *error;
    struct column *columns;
    int column_count;
    struct strbuf keys;
    struct strbuf scratch; /* arrays are taken apart in a copy */
};

static int refuse(struct encoder *encoder, int column, const char *why)
{
    *encoder->error = (struct pg_error){.failure = PG_FAILURE_REFUSED};
    (void)snprintf(encoder->error->message, sizeof(encoder->error->message), "column \"%s\": %s",
                   pg_result_column_name(encoder->result, column), why);
    return -1;
}

static int too_large(struct encoder *encoder)
{
    *encoder->error = (struct pg_error){.failure = PG_FAILURE_TOO_LARGE};
    (void)snprintf(encoder->error->message, sizeof(encoder->error->message),
                   "the encoded result has too many bytes");
    return -1;
}

/* True: every column's type is known. */
static bool get_types(struct encoder *encoder)
{
    bool known = true;
    for (int i = 0; i < encoder->column_count; i++)
        known = sql_types_get(encoder->types, pg_result_column_type(encoder->result, i),
                              &encoder->columns[i].type) &&
                known;
    return known;
}

static int ask_types(struct encoder *encoder, struct pg_transaction *tx)
{
    CLEANUP_FREE unsigned *oids = xcalloc((size_t)encoder->column_count, sizeof(*oids));
    for (int i = 0; i < encoder->column_count; i++) {
        oids[i] = pg_result_column_type(encoder->result, i);
        const char *unsupported = sql_types_unsupported(oids[i]);
        if (unsupported)
            return refuse(encoder, i, unsupported);
    }
    if (sql_types_resolve(encoder->types, tx, oids, (size_t)encoder->column_count, encoder->error) < 0)
        return -1;
    for (int i = 0; i < encoder->column_count; i++) {
        if (!sql_types_get(encoder->types, oids[i], &encoder->columns[i].type))
            return refuse(encoder, i, "its type is not in pg_type");
    }
    return 0;
}

static int ask_values(struct encoder *encoder, struct pg_transaction *tx, int rows)
{
    for (int i = 0; i < encoder->column_count; i++) {
        struct column *column = &encoder->columns[i];
        if (column->type.kind == SQL_TYPE_SERVER &&
            sql_server_encode(encoder->result, rows, i, encoder->types, &column->type, tx, &column->server,
                              encoder->error) < 0)
            return -1;
    }
    return 0;
}

static int prepare(struct encoder *encoder, struct pg_transaction *tx, int rows)
{
    if (!get_types(encoder) && ask_types(encoder, tx) < 0)
        return -1;
    return ask_values(encoder, tx, rows);
}

static void make_keys(struct encoder *encoder)
{
    for (int i = 0; i < encoder->column_count; i++) {
        const char *name = pg_result_column_name(encoder->result, i);
        struct column *column = &encoder->columns[i];
        column->key_start = encoder->keys.len;
        if (i > 0)
            (void)strbuf_append_char(&encoder->keys, ',');
        sql_scalar_put_string(name, strlen(name), &encoder->keys);
        (void)strbuf_append_char(&encoder->keys, ':');
        column->key_len = encoder->keys.len - column->key_start;
    }
}

static void encoder_init(struct encoder *encoder, const struct pg_result *result, int columns,
                         struct sql_types *types, struct strbuf *out, struct pg_error *error)
{
    *encoder = (struct encoder){
        .result = result, .types = types, .out = out, .error = error, .column_count = columns};
    encoder->columns = xcalloc((size_t)columns + 1, sizeof(*encoder->columns));
    strbuf_init(&encoder->keys, KEYS_MAX_BYTES);
    strbuf_init(&encoder->scratch, SCRATCH_MAX_BYTES);
}

static void encoder_release(struct encoder *encoder)
{
    for (int i = 0; i < encoder->column_count; i++)
        pg_result_free(encoder->columns[i].server);
    free(encoder->columns);
    strbuf_release(&encoder->keys);
    strbuf_release(&encoder->scratch);
}

static int put_array(struct encoder *encoder, const struct sql_type *type, const char *text, size_t len)
{
    strbuf_clear(&encoder->scratch);
    if (strbuf_append(&encoder->scratch, text, len) < 0)
        return -1;
    return sql_array_encode(encoder->types, type, encoder->scratch.buf, len, encoder->out);
}

static int put_value(struct encoder *encoder, int row, int index)
{
    struct column *column = &encoder->columns[index];
    size_t len;
    const char *text = pg_result_value(encoder->result, row, index, &len);
    int result = 0;
    if (!text) {
        (void)strbuf_append_str(encoder->out, "null");
    } else if (column->type.kind == SQL_TYPE_SERVER) {
        text = pg_result_value(column->server, column->server_next++, 0, &len);
        (void)strbuf_append(encoder->out, text, len);
    } else if (column->type.kind == SQL_TYPE_ARRAY) {
        result = put_array(encoder, &column->type, text, len);
    } else {
        result = sql_scalar_encode(column->type.kind, text, len, encoder->out);
    }
    if (result < 0)
        return refuse(encoder, index, "a value is not in the form that DateStyle ISO gives it");
    return strbuf_failed(encoder->out) ? too_large(encoder) : 0;
}

static int put_row(struct encoder *encoder, int row)
{
    (void)strbuf_append_char(encoder->out, '{');
    for (int i = 0; i < encoder->column_count; i++) {
        const struct column *column = &encoder->columns[i];
        (void)strbuf_append(encoder->out, encoder->keys.buf + column->key_start, column->key_len);
        if (put_value(encoder, row, i) < 0)
            return -1;
    }
    (void)strbuf_append_char(encoder->out, '}');
    return 0;
}

static int put_rows(struct encoder *encoder, int rows)
{
    (void)strbuf_append_char(encoder->out, '[');
    for (int row = 0; row < rows; row++) {
        if (row > 0)
            (void)strbuf_append_char(encoder->out, ',');
        if (put_row(encoder, row) < 0)
            return -1;
    }
    (void)strbuf_append_char(encoder->out, ']');
    return 0;
}

bool sql_encode_needs_server(const struct pg_result *result, struct sql_types *types)
{
    struct sql_type type;
    for (int i = 0; i < pg_result_columns(result); i++) {
        if (!sql_types_get(types, pg_result_column_type(result, i), &type) || type.kind == SQL_TYPE_SERVER)
            return true;
    }
    return false;
}

enum shape { SHAPE_ROWS, SHAPE_ROW, SHAPE_VALUE };

static int put_shape(struct encoder *encoder, enum shape shape, int rows)
{
    make_keys(encoder);
    switch (shape) {
    case SHAPE_ROWS:
        return put_rows(encoder, rows);
    case SHAPE_ROW:
        return put_row(encoder, 0);
    case SHAPE_VALUE:
        return put_value(encoder, 0, 0);
    }
    return -1;
}

static int encode(const struct pg_result *result, enum shape shape, struct sql_types *types,
                  struct pg_transaction *tx, struct strbuf *out, struct pg_error *error)
{
    int rows = shape == SHAPE_ROWS ? pg_result_rows(result) : 1;
    int columns = shape == SHAPE_VALUE ? 1 : pg_result_columns(result);
    struct encoder encoder;
    encoder_init(&encoder, result, columns, types, out, error);
    int failed = prepare(&encoder, tx, rows);
    if (failed == 0)
        failed = put_shape(&encoder, shape, rows);
    if (failed == 0 && (strbuf_failed(out) || strbuf_failed(&encoder.keys)))
        failed = too_large(&encoder);
    encoder_release(&encoder);
    return failed;
}

int sql_encode_rows(const struct pg_result *result, struct sql_types *types, struct pg_transaction *tx,
                    struct strbuf *out, struct pg_error *error)
{
    return encode(result, SHAPE_ROWS, types, tx, out, error);
}

int sql_encode_row(const struct pg_result *result, struct sql_types *types, struct pg_transaction *tx,
                   struct strbuf *out, struct pg_error *error)
{
    return encode(result, SHAPE_ROW, types, tx, out, error);
}

int sql_encode_value(const struct pg_result *result, struct sql_types *types, struct pg_transaction *tx,
                     struct strbuf *out, struct pg_error *error)
{
    return encode(result, SHAPE_VALUE, types, tx, out, error);
}
