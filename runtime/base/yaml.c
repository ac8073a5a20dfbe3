#include "runtime/base/yaml.h"

#include <math.h>
#include <string.h>
#include <yaml.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/base/yaml_plain.h"

#define YAML_TAG_PREFIX "tag:yaml.org,2002:"

struct key {
    const char *name; /* borrowed from the tree */
    size_t line, column;
};

/* An open sequence or mapping. */
struct frame {
    cJSON *item;
    struct key *keys; /* mappings: for the check of duplicates */
    size_t key_count, key_alloc;
    char *pending_key; /* key read, value awaited */
};

/* libyaml's names begin with yaml_ and so does our header; inside this file the state is a loader. */
struct loader {
    yaml_parser_t parser;
    struct frame frames[JSON_DEPTH_MAX];
    int depth;
    enum yaml_dialect dialect;
    cJSON *documents;
    struct yaml_marks *marks; /* NULL: nobody asks */
    struct yaml_mark where;   /* of the error */
    struct err *err;
};

static int fail_at(struct loader *loader, size_t line, size_t column, const char *what)
{
    loader->where = (struct yaml_mark){.line = line, .column = column};
    return err_set(loader->err, ERR_INVALID, "%s", what);
}

static int fail(struct loader *loader, const yaml_event_t *event, const char *what)
{
    return fail_at(loader, event->start_mark.line + 1, event->start_mark.column + 1, what);
}

static int fail_parser(struct loader *loader)
{
    const yaml_parser_t *parser = &loader->parser;
    const char *problem = parser->problem ? parser->problem : "malformed";
    if (parser->error == YAML_MEMORY_ERROR) {
        abort();
    }
    /* The reader's errors (encoding) know an offset only; the mark is where the parser stood. */
    const yaml_mark_t *mark = parser->error == YAML_READER_ERROR ? &parser->mark : &parser->problem_mark;
    return fail_at(loader, mark->line + 1, mark->column + 1, problem);
}

static cJSON *must(cJSON *item)
{
    if (!item) {
        abort();
    }
    return item;
}

static int resolve_plain(struct loader *loader, const yaml_event_t *event, const char *text, cJSON **ret_item)
{
    double number = 0;
    switch (yaml_plain_resolve(text, loader->dialect, &number)) {
    case PLAIN_NULL:
        *ret_item = must(cJSON_CreateNull());
        break;
    case PLAIN_FALSE:
        *ret_item = must(cJSON_CreateFalse());
        break;
    case PLAIN_TRUE:
        *ret_item = must(cJSON_CreateTrue());
        break;
    case PLAIN_NUMBER:
        if (!isfinite(number)) {
            return fail(loader, event, "the number is out of range");
        }
        *ret_item = must(cJSON_CreateNumber(number));
        break;
    case PLAIN_NOT_FINITE:
        return fail(loader, event, "infinity and NaN have no JSON form");
    case PLAIN_STRING:
        *ret_item = must(cJSON_CreateString(text));
        break;
    }
    return 0;
}

static bool tag_is(const char *tag, const char *core_name)
{
    return str_starts_with(tag, YAML_TAG_PREFIX) && strcmp(tag + strlen(YAML_TAG_PREFIX), core_name) == 0;
}

/* A scalar with an explicit tag: the text must have a form that the tag allows. */
static int resolve_tagged(struct loader *loader, const yaml_event_t *event, const char *text, const char *tag,
                          cJSON **ret_item)
{
    if (strcmp(tag, "!") == 0 || tag_is(tag, "str")) {
        *ret_item = must(cJSON_CreateString(text));
        return 0;
    }
    bool is_int = tag_is(tag, "int"), is_float = tag_is(tag, "float");
    if (!is_int && !is_float && !tag_is(tag, "bool") && !tag_is(tag, "null")) {
        return fail(loader, event, "only the tags of the core schema are supported");
    }
    CLEANUP_JSON cJSON *item = NULL;
    if (resolve_plain(loader, event, text, &item) < 0) {
        return -1;
    }
    double number = cJSON_GetNumberValue(item); /* NaN if it is none */
    bool fits = is_int                ? number == trunc(number)
                : is_float            ? cJSON_IsNumber(item)
                : tag_is(tag, "bool") ? cJSON_IsBool(item)
                                      : cJSON_IsNull(item);
    if (!fits) {
        return fail(loader, event, "the value does not fit its tag");
    }
    *ret_item = steal_ptr(&item);
    return 0;
}

static int check_anchor(struct loader *loader, const yaml_event_t *event, const yaml_char_t *anchor)
{
    return anchor ? fail(loader, event, "anchors and aliases are not supported") : 0;
}

static int check_collection_tag(struct loader *loader, const yaml_event_t *event, const yaml_char_t *tag,
                                const char *core_name)
{
    return tag && !tag_is((const char *)tag, core_name)
               ? fail(loader, event, "only the tags of the core schema are supported")
               : 0;
}

static void mark(struct loader *loader, const cJSON *item, size_t line, size_t column)
{
    if (loader->marks) {
        yaml_marks_add(loader->marks, item, (struct yaml_mark){.line = line, .column = column});
    }
}

/* Puts a finished or just opened value where it belongs; takes ownership. */
static void place_value(struct loader *loader, const yaml_event_t *event, cJSON *item)
{
    struct frame *frame = loader->depth > 0 ? &loader->frames[loader->depth - 1] : NULL;
    if (frame && frame->pending_key) {
        const struct key *key = &frame->keys[frame->key_count - 1];
        mark(loader, item, key->line, key->column);
    } else {
        mark(loader, item, event->start_mark.line + 1, event->start_mark.column + 1);
    }
    if (!frame) {
        cJSON_AddItemToArray(loader->documents, item);
        return;
    }
    if (!frame->pending_key) {
        cJSON_AddItemToArray(frame->item, item);
        return;
    }
    if (!cJSON_AddItemToObject(frame->item, frame->pending_key, item)) {
        abort();
    }
    frame->keys[frame->key_count - 1].name = item->string;
    free(frame->pending_key);
    frame->pending_key = NULL;
}

static bool awaits_key(const struct loader *loader)
{
    if (loader->depth == 0) {
        return false;
    }
    const struct frame *frame = &loader->frames[loader->depth - 1];
    return cJSON_IsObject(frame->item) && !frame->pending_key;
}

/* A name as kubectl makes it of a plain scalar that is no string: "on" is the name "true". The core dialect keeps the text. */
static char *key_text(const struct loader *loader, const char *text, enum yaml_plain meaning, double number)
{
    if (loader->dialect == YAML_DIALECT_KUBECTL && (meaning == PLAIN_TRUE || meaning == PLAIN_FALSE)) {
        return xstrdup(meaning == PLAIN_TRUE ? "true" : "false");
    }
    if (loader->dialect == YAML_DIALECT_KUBECTL && meaning == PLAIN_NUMBER && isfinite(number)) {
        char formatted[FORMAT_DOUBLE_SIZE];
        format_double(number, formatted);
        return xstrdup(formatted);
    }
    return xstrdup(text);
}

static int take_key(struct loader *loader, const yaml_event_t *event, const char *text)
{
    struct frame *frame = &loader->frames[loader->depth - 1];
    bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && !event->data.scalar.tag;
    if (plain && strcmp(text, "<<") == 0) {
        return fail(loader, event, "merge keys are not supported");
    }
    double number = 0;
    enum yaml_plain meaning = plain ? yaml_plain_resolve(text, loader->dialect, &number) : PLAIN_STRING;
    if (meaning == PLAIN_NULL) {
        return fail(loader, event, "a name is expected, not null");
    }
    if (event->data.scalar.tag && !tag_is((const char *)event->data.scalar.tag, "str")) {
        return fail(loader, event, "a name must be a string");
    }
    if (frame->key_count == frame->key_alloc) {
        frame->key_alloc = frame->key_alloc ? frame->key_alloc * 2 : 8;
        frame->keys = xreallocarray(frame->keys, frame->key_alloc, sizeof(struct key));
    }
    frame->keys[frame->key_count++] =
        (struct key){.line = event->start_mark.line + 1, .column = event->start_mark.column + 1};
    frame->pending_key = key_text(loader, text, meaning, number);
    return 0;
}

static int on_scalar(struct loader *loader, const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    const char *tag = (const char *)event->data.scalar.tag;
    if (check_anchor(loader, event, event->data.scalar.anchor) < 0) {
        return -1;
    }
    if (strlen(text) != event->data.scalar.length) {
        return fail(loader, event, "\\0 is not allowed");
    }
    if (awaits_key(loader)) {
        return take_key(loader, event, text);
    }
    bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (loader->depth == 0 && plain && !tag && *text == '\0') {
        return 0; /* an empty document */
    }
    cJSON *item = NULL;
    if (tag) {
        if (resolve_tagged(loader, event, text, tag, &item) < 0) {
            return -1;
        }
    } else if (!plain) {
        item = must(cJSON_CreateString(text));
    } else if (resolve_plain(loader, event, text, &item) < 0) {
        return -1;
    }
    place_value(loader, event, item);
    return 0;
}

static int on_collection(struct loader *loader, const yaml_event_t *event, bool mapping)
{
    const yaml_char_t *anchor =
        mapping ? event->data.mapping_start.anchor : event->data.sequence_start.anchor;
    const yaml_char_t *tag = mapping ? event->data.mapping_start.tag : event->data.sequence_start.tag;
    if (check_anchor(loader, event, anchor) < 0 ||
        check_collection_tag(loader, event, tag, mapping ? "map" : "seq") < 0) {
        return -1;
    }
    if (awaits_key(loader)) {
        return fail(loader, event, "a name must be a string");
    }
    if (loader->depth == JSON_DEPTH_MAX) {
        return fail(loader, event, "nested too deeply");
    }
    cJSON *item = must(mapping ? cJSON_CreateObject() : cJSON_CreateArray());
    place_value(loader, event, item);
    loader->frames[loader->depth++] = (struct frame){.item = item};
    return 0;
}

static int compare_keys(const void *left, const void *right)
{
    const struct key *a = left, *b = right;
    int order = strcmp(a->name, b->name);
    return order != 0           ? order
           : a->line != b->line ? (a->line < b->line ? -1 : 1)
                                : (a->column > b->column) - (a->column < b->column);
}

static int close_collection(struct loader *loader)
{
    struct frame *frame = &loader->frames[--loader->depth];
    CLEANUP_FREE struct key *keys = steal_ptr(&frame->keys);
    if (frame->key_count > 1) {
        qsort(keys, frame->key_count, sizeof(keys[0]), compare_keys);
    }
    for (size_t i = 1; i < frame->key_count; i++) {
        if (strcmp(keys[i - 1].name, keys[i].name) == 0) {
            char what[160];
            snprintf(what, sizeof(what), "duplicate name \"%.100s\"", keys[i].name);
            return fail_at(loader, keys[i].line, keys[i].column, what);
        }
    }
    return 0;
}

static int on_event(struct loader *loader, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return fail(loader, event, "anchors and aliases are not supported");
    case YAML_SCALAR_EVENT:
        return on_scalar(loader, event);
    case YAML_SEQUENCE_START_EVENT:
        return on_collection(loader, event, /* mapping= */ false);
    case YAML_MAPPING_START_EVENT:
        return on_collection(loader, event, /* mapping= */ true);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return close_collection(loader);
    default: /* start and end of the stream and of documents */
        return 0;
    }
}

static int load(struct loader *loader)
{
    for (bool done = false; !done;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&loader->parser, &event)) {
            return fail_parser(loader);
        }
        done = event.type == YAML_STREAM_END_EVENT;
        int result = on_event(loader, &event);
        yaml_event_delete(&event);
        if (result < 0) {
            return -1;
        }
    }
    return 0;
}

static int load_all(struct loader *loader, const char *text, size_t len)
{
    if (len > YAML_MAX_BYTES) {
        return err_set(loader->err, ERR_TOO_LARGE, "YAML text larger than %u bytes", YAML_MAX_BYTES);
    }
    if (!yaml_parser_initialize(&loader->parser)) {
        abort(); /* out of memory */
    }
    yaml_parser_set_encoding(&loader->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&loader->parser, (const unsigned char *)text, len);
    int result = load(loader);
    while (loader->depth > 0) {
        struct frame *frame = &loader->frames[--loader->depth];
        free(frame->keys);
        free(frame->pending_key);
    }
    yaml_parser_delete(&loader->parser);
    return result;
}

int yaml_documents_read(const char *text, size_t len, enum yaml_dialect dialect, cJSON **ret_documents,
                        struct yaml_marks **ret_marks, struct yaml_mark *ret_where, struct err *err)
{
    CLEANUP_JSON cJSON *documents = must(cJSON_CreateArray());
    CLEANUP_YAML_MARKS struct yaml_marks *marks = yaml_marks_new();
    struct loader loader = {.documents = documents, .dialect = dialect, .marks = marks, .err = err};
    if (load_all(&loader, text, len) < 0) {
        *ret_where = loader.where;
        return -1;
    }
    yaml_marks_finish(marks);
    *ret_documents = steal_ptr(&documents);
    *ret_marks = steal_ptr(&marks);
    return 0;
}

int yaml_documents_parse(const char *text, size_t len, cJSON **ret_documents, struct err *err)
{
    CLEANUP_JSON cJSON *documents = must(cJSON_CreateArray());
    struct loader loader = {.documents = documents, .dialect = YAML_DIALECT_CORE, .err = err};
    if (load_all(&loader, text, len) < 0) {
        return loader.where.line
                   ? err_wrap(err, "line %zu column %zu", loader.where.line, loader.where.column)
                   : -1;
    }
    *ret_documents = steal_ptr(&documents);
    return 0;
}

int yaml_document_parse(const char *text, size_t len, cJSON **ret_tree, struct err *err)
{
    CLEANUP_JSON cJSON *documents = NULL;
    if (yaml_documents_parse(text, len, &documents, err) < 0) {
        return -1;
    }
    int count = cJSON_GetArraySize(documents);
    if (count != 1) {
        return err_set(err, ERR_INVALID, "one YAML document is expected, not %d", count);
    }
    *ret_tree = cJSON_DetachItemFromArray(documents, 0);
    return 0;
}
