#include "runtime/host/sql_bind.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/host/sql_reserved.h"
#include "runtime/host/url.h"
#include "runtime/sql/sql_param.h"

static __attribute__((format(printf, 4, 5))) int refuse(struct sql_bind_refusal *refusal, int status,
                                                        const char *code, const char *format, ...)
{
    va_list args;

    refusal->status = status;
    refusal->code = code;
    va_start(args, format);
    vsnprintf(refusal->detail, sizeof(refusal->detail), format, args);
    va_end(args);
    return -1;
}

/* ---- where values come from ---- */

/* The value to be filled; NULL: no statement uses that name, or it is one of ours. */
static struct sql_bind_value *wanted(struct sql_bind *bind, const char *name)
{
    int index = sql_text_find(bind->text, name);

    return index < 0 || bind->text->reserved[index] != SQL_RESERVED_NONE ? NULL : &bind->values[index];
}

static int refuse_second(struct sql_bind_refusal *refusal, const char *name)
{
    return refuse(refusal, 400, "ambiguous_parameter", "\"%s\" is in more than one of path, query and body",
                  name);
}

static void take_path(struct sql_bind *bind)
{
    const struct field_list *path = &bind->request->parameters;

    for (size_t i = 0; i < path->count; i++) {
        struct sql_bind_value *value = wanted(bind, path->fields[i].name);

        if (value != NULL)
            *value = (struct sql_bind_value){.from = SQL_BIND_TEXT, .value = path->fields[i].value};
    }
}

static int take_query(struct sql_bind *bind, struct sql_bind_refusal *refusal)
{
    const struct field_list *query = &bind->request->query;

    for (size_t i = 0; i < query->count; i++) {
        struct sql_bind_value *value = wanted(bind, query->fields[i].name);

        if (value == NULL)
            continue;
        if (value->from == SQL_BIND_QUERY)
            value->repeated = true;
        else if (value->from != SQL_BIND_ABSENT)
            return refuse_second(refusal, query->fields[i].name);
        else
            *value = (struct sql_bind_value){.from = SQL_BIND_QUERY, .value = query->fields[i].value};
    }
    return 0;
}

static int take_body(struct sql_bind *bind, struct sql_bind_refusal *refusal)
{
    const struct json_node *root;

    (void)request_json(bind->request); /* parses it, if that was not done yet */
    if (bind->request->json_malformed)
        return -1;
    root = bind->request->json != NULL ? json_doc_root(bind->request->json) : NULL;
    if (root == NULL || json_node_type(root) != JSON_OBJECT)
        return 0;
    for (const struct json_node *member = json_node_first(root); member != NULL;
         member = json_node_next(member)) {
        const char *name = json_node_name(member, NULL);
        struct sql_bind_value *value = wanted(bind, name);

        if (value == NULL)
            continue;
        if (value->from != SQL_BIND_ABSENT)
            return refuse_second(refusal, name);
        *value = (struct sql_bind_value){.from = SQL_BIND_JSON, .json = member};
    }
    return 0;
}

static int take_default(struct sql_bind *bind, const struct function_spec *spec, int index,
                        struct sql_bind_refusal *refusal)
{
    const char *name = bind->text->names[index];

    for (size_t i = 0; i < spec->parameter_count; i++)
        if (strcmp(spec->parameters[i].name, name) == 0) {
            bind->values[index] =
                (struct sql_bind_value){.from = SQL_BIND_TEXT, .value = spec->parameters[i].default_text};
            return 0;
        }
    return refuse(refusal, 400, "missing_parameter", "\"%s\" is missing", name);
}

int sql_bind_begin(struct sql_bind *bind, const struct sql_text *text, struct sql_types *types,
                   const struct function_spec *spec, struct cicada_request *request,
                   const struct cloud_event *event, struct arena *arena, struct sql_bind_refusal *refusal)
{
    bind->text = text;
    bind->types = types;
    bind->arena = arena;
    bind->request = request;
    bind->made_bytes = 0;
    memset(bind->values, 0, (size_t)text->name_count * sizeof(bind->values[0]));
    take_path(bind);
    if (take_query(bind, refusal) != 0 || take_body(bind, refusal) != 0)
        return -1;
    for (int i = 0; i < text->name_count; i++) {
        if (text->reserved[i] != SQL_RESERVED_NONE)
            bind->values[i] = (struct sql_bind_value){
                .from = SQL_BIND_TEXT, .value = sql_reserved_text(text->reserved[i], request, event, arena)};
        else if (bind->values[i].from == SQL_BIND_ABSENT && take_default(bind, spec, i, refusal) != 0)
            return -1;
    }
    return 0;
}

/* ---- as text for a type ---- */

/* The text that was made, in the arena. */
static int keep(struct sql_bind *bind, const struct strbuf *made, const char **ret_text,
                struct sql_bind_refusal *refusal)
{
    bind->made_bytes += made->len;
    if (strbuf_failed(made) || bind->made_bytes > SQL_BIND_MAX_BYTES)
        return refuse(refusal, 413, "parameters_too_large",
                      "the parameters are larger than %u bytes together", SQL_BIND_MAX_BYTES);
    *ret_text = arena_strndup(bind->arena, made->buf, made->len);
    return 0;
}

static int json_text(struct sql_bind *bind, const char *name, const struct json_node *json, unsigned type,
                     const char **ret_text, struct sql_bind_refusal *refusal)
{
    CLEANUP_STRBUF struct strbuf made;
    struct err err = ERR_INIT;
    bool null;

    strbuf_init(&made, SQL_BIND_MAX_BYTES);
    if (sql_param_from_json(json, bind->types, type, &made, &null, &err) != 0)
        return refuse(refusal, 400, "invalid_parameter", "\"%s\" %s", name, err.msg);
    *ret_text = NULL;
    return null ? 0 : keep(bind, &made, ret_text, refusal);
}

/* All of that name in the query, as an array literal. */
static int query_array(struct sql_bind *bind, const char *name, char delimiter, const char **ret_text,
                       struct sql_bind_refusal *refusal)
{
    const struct field_list *query = &bind->request->query;
    const char *elements[URL_QUERY_FIELDS_MAX];
    CLEANUP_STRBUF struct strbuf made;
    size_t count = 0;

    for (size_t i = 0; i < query->count; i++)
        if (strcmp(query->fields[i].name, name) == 0)
            elements[count++] = query->fields[i].value;
    strbuf_init(&made, SQL_BIND_MAX_BYTES);
    sql_param_from_texts(elements, count, delimiter, &made);
    return keep(bind, &made, ret_text, refusal);
}

static int query_text(struct sql_bind *bind, const char *name, const struct sql_bind_value *value,
                      unsigned type_oid, const char **ret_text, struct sql_bind_refusal *refusal)
{
    struct sql_type type;
    bool is_array = sql_types_get(bind->types, type_oid, &type) && type.kind == SQL_TYPE_ARRAY;

    if (is_array && (value->repeated || strchr("{[", value->value[0]) == NULL || value->value[0] == '\0'))
        return query_array(bind, name, type.delimiter, ret_text, refusal);
    if (value->repeated)
        return refuse(refusal, 400, "ambiguous_parameter", "\"%s\" is in the query more than once", name);
    *ret_text = value->value;
    return 0;
}

int sql_bind_statement(struct sql_bind *bind, const struct sql_statement *statement,
                       const unsigned *param_types, const char **ret_params, struct sql_bind_refusal *refusal)
{
    for (int i = 0; i < statement->param_count; i++) {
        int index = statement->params[i];
        const char *name = bind->text->names[index];
        const struct sql_bind_value *value = &bind->values[index];
        int rc = 0;

        if (value->from == SQL_BIND_JSON)
            rc = json_text(bind, name, value->json, param_types[i], &ret_params[i], refusal);
        else if (value->from == SQL_BIND_QUERY)
            rc = query_text(bind, name, value, param_types[i], &ret_params[i], refusal);
        else
            ret_params[i] = value->value;
        if (rc != 0)
            return -1;
    }
    return 0;
}
