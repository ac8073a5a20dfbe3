#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "operator/function/structural_schema_internal.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"

#define PATH_MAX_BYTES    1024
#define MESSAGE_MAX_BYTES 1024
#define INT64_END         9223372036854775808.0
#define DUPLICATES_MAX    1024 /* elements of a list map or set that are compared with one another */

/* Where the walk is: text is written only for a problem. */
struct place {
    const struct place *parent; /* NULL: the start, whose name is the caller's path */
    const char *name;           /* NULL: an element */
    size_t index;
};

struct check {
    const struct place *place;
    const cJSON *value;
    struct schema_problems *problems; /* NULL: only whether there is one */
    bool failed;
};

void schema_problems_add(struct schema_problems *problems, enum schema_problem_kind kind, const char *path,
                         const cJSON *node, const char *format, ...)
{
    if (problems->count == SCHEMA_PROBLEMS_MAX) {
        problems->left_out++;
        return;
    }
    if (!problems->items) {
        problems->items = xcalloc(SCHEMA_PROBLEMS_MAX, sizeof problems->items[0]);
    }
    va_list args;
    va_start(args, format);
    char *message = format_text(MESSAGE_MAX_BYTES, format, args);
    va_end(args);
    problems->items[problems->count++] =
        (struct schema_problem){.kind = kind, .path = xstrdup(path), .message = message, .node = node};
}

void schema_problems_release(struct schema_problems *problems)
{
    for (size_t i = 0; i < problems->count; i++) {
        free(problems->items[i].path);
        free(problems->items[i].message);
    }
    free(problems->items);
    *problems = (struct schema_problems)SCHEMA_PROBLEMS_INIT;
}

static void append_place(struct strbuf *path, const struct place *place)
{
    if (place->parent) {
        append_place(path, place->parent);
    }
    if (place->name) {
        strbuf_appendf(path, "%s%s", path->len > 0 ? "." : "", place->name);
    } else {
        strbuf_appendf(path, "[%zu]", place->index);
    }
}

static void report(struct check *check, enum schema_problem_kind kind, const struct place *place,
                   const cJSON *node, const char *message)
{
    check->failed = true;
    if (check->problems) {
        char storage[PATH_MAX_BYTES];
        struct strbuf path;
        strbuf_init_fixed(&path, storage, sizeof storage);
        append_place(&path, place); /* a longer one is cut */
        schema_problems_add(check->problems, kind, storage, node, "%s", message);
    }
}

static void invalid(struct check *check, const char *message)
{
    report(check, SCHEMA_INVALID, check->place, check->value, message);
}

static void __attribute__((format(printf, 2, 3))) invalidf(struct check *check, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    CLEANUP_FREE char *message = format_text(MESSAGE_MAX_BYTES, format, args);
    va_end(args);
    invalid(check, message);
}

static const struct structural_schema *schema_of_member(const struct structural_schema *schema,
                                                        const char *name)
{
    for (size_t i = 0; i < schema->property_count; i++) {
        if (strcmp(schema->properties[i].name, name) == 0) {
            return schema->properties[i].schema;
        }
    }
    return schema->additional;
}

/* An API server drops such a member before it looks at anything. */
static bool is_dropped(const struct structural_schema *schema, const cJSON *member)
{
    return cJSON_IsNull(member) && schema && !schema->nullable;
}

static bool has_member(const struct structural_schema *schema, const cJSON *object, const char *name)
{
    const cJSON *member = json_get(object, name);
    const struct structural_schema *known = schema_of_member(schema, name);
    return member && (!cJSON_IsNull(member) || (known && known->nullable));
}

void structural_schema_drop_nulls(const struct structural_schema *schema, cJSON *value)
{
    cJSON *next;
    for (cJSON *item = value->child; item; item = next) {
        next = item->next;
        const struct structural_schema *known =
            cJSON_IsObject(value) ? schema_of_member(schema, item->string) : schema->items;
        if (cJSON_IsObject(value) && is_dropped(known, item)) {
            cJSON_Delete(cJSON_DetachItemViaPointer(value, item));
        } else if (known) {
            structural_schema_drop_nulls(known, item);
        }
    }
}

/* ---- members that the schema does not know ---- */

static void find_unknown(const struct structural_schema *schema, const cJSON *value,
                         const struct place *place, struct schema_problems *problems)
{
    struct check check = {.place = place, .value = value, .problems = problems};
    const cJSON *item;
    size_t index = 0;
    cJSON_ArrayForEach(item, value)
    {
        struct place below = {.parent = place, .name = item->string, .index = index++};
        const struct structural_schema *known =
            cJSON_IsObject(value) ? schema_of_member(schema, item->string) : schema->items;
        if (known) {
            find_unknown(known, item, &below, problems);
        } else if (cJSON_IsObject(value) && schema->type == SCHEMA_TYPE_OBJECT && !schema->keeps_unknown) {
            report(&check, SCHEMA_UNKNOWN_FIELD, &below, item, "unknown field");
        }
    }
}

/* ---- values ---- */

static void check_value(const struct structural_schema *schema, struct check *check);

/* Whether the same value fits another schema. */
static bool fits(const struct structural_schema *schema, const struct check *check)
{
    struct check trial = {.place = check->place, .value = check->value};
    check_value(schema, &trial);
    return !trial.failed;
}

/* One that fits 64 bits, as the API server has it. */
static bool is_integer(const cJSON *value)
{
    return cJSON_IsNumber(value) && value->valuedouble == trunc(value->valuedouble) &&
           fabs(value->valuedouble) < INT64_END;
}

static bool has_type(enum schema_type type, const cJSON *value)
{
    switch (type) {
    case SCHEMA_TYPE_OBJECT:
        return cJSON_IsObject(value);
    case SCHEMA_TYPE_ARRAY:
        return cJSON_IsArray(value);
    case SCHEMA_TYPE_STRING:
        return cJSON_IsString(value);
    case SCHEMA_TYPE_INTEGER:
        return is_integer(value);
    case SCHEMA_TYPE_NUMBER:
        return cJSON_IsNumber(value);
    case SCHEMA_TYPE_BOOLEAN:
        return cJSON_IsBool(value);
    default:
        return true;
    }
}

static bool check_type(const struct structural_schema *schema, struct check *check)
{
    static const char *const names[] = {"anything",       "an object", "a list",       "a string",
                                        "a whole number", "a number",  "true or false"};
    if (schema->int_or_string && !cJSON_IsString(check->value) && !is_integer(check->value)) {
        invalid(check, "must be a whole number or a string");
        return false;
    }
    if (!has_type(schema->type, check->value)) {
        invalidf(check, "must be %s", names[schema->type]);
        return false;
    }
    return true;
}

static void check_choices(const struct structural_schema *schema, struct check *check)
{
    const cJSON *choice;
    cJSON_ArrayForEach(choice, schema->choices)
    {
        if (cJSON_Compare(choice, check->value, true)) {
            return;
        }
    }
    CLEANUP_STRBUF struct strbuf known;
    strbuf_init(&known, MESSAGE_MAX_BYTES / 2);
    cJSON_ArrayForEach(choice, schema->choices)
    {
        CLEANUP_FREE char *text = json_print_dup(choice);
        bool bare = cJSON_IsString(choice) && choice->valuestring[0];
        strbuf_appendf(&known, "%s%s", known.len > 0 ? ", " : "", bare ? choice->valuestring : text);
    }
    invalidf(check, "must be one of %s", known.buf);
}

static size_t count_code_points(const char *text)
{
    size_t count = 0;
    for (; *text; text++) {
        count += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return count;
}

static void check_text(const struct structural_schema *schema, struct check *check)
{
    const char *text = check->value->valuestring;
    size_t count = count_code_points(text);
    if (count < schema->min_length) {
        invalidf(check, "must have at least %zu character%s", schema->min_length,
                 schema->min_length == 1 ? "" : "s");
    } else if (count > schema->max_length) {
        invalidf(check, "must have at most %zu characters", schema->max_length);
    } else if (schema->pattern && regexec(&schema->regex, text, 0, NULL, 0) != 0) {
        invalidf(check, "must match %s", schema->pattern);
    }
}

static void check_number(const struct structural_schema *schema, struct check *check)
{
    double number = check->value->valuedouble;
    bool low = schema->has_minimum && number < schema->minimum;
    if (!low && !(schema->has_maximum && number > schema->maximum)) {
        return;
    }
    if (schema->has_minimum && schema->has_maximum) {
        invalidf(check, "must be from %.16g to %.16g", schema->minimum, schema->maximum);
    } else {
        invalidf(check, "must be at %s %.16g", low ? "least" : "most",
                 low ? schema->minimum : schema->maximum);
    }
}

static bool is_same_element(const struct structural_schema *schema, const cJSON *a, const cJSON *b)
{
    if (schema->list_set) {
        return cJSON_Compare(a, b, true);
    }
    for (size_t i = 0; i < schema->list_keys.count; i++) {
        const cJSON *left = json_get(a, schema->list_keys.items[i]);
        const cJSON *right = json_get(b, schema->list_keys.items[i]);
        if (left || right ? !cJSON_Compare(left, right, true) : false) {
            return false;
        }
    }
    return cJSON_IsObject(a) && cJSON_IsObject(b);
}

static void check_duplicates(const struct structural_schema *schema, struct check *check)
{
    size_t index = 0;
    const cJSON *item, *before;
    cJSON_ArrayForEach(item, check->value)
    {
        if (index == DUPLICATES_MAX) {
            break;
        }
        for (before = check->value->child; before != item; before = before->next) {
            if (is_same_element(schema, before, item)) {
                struct place at = {.parent = check->place, .index = index};
                report(check, SCHEMA_INVALID, &at, item, "must not be listed twice");
                break;
            }
        }
        index++;
    }
}

static void check_list(const struct structural_schema *schema, struct check *check)
{
    size_t count = (size_t)cJSON_GetArraySize(check->value), index = 0;
    if (count < schema->min_items) {
        invalidf(check, "must have at least %zu items", schema->min_items);
    } else if (count > schema->max_items) {
        invalidf(check, "must have at most %zu items", schema->max_items);
    }
    const cJSON *item;
    cJSON_ArrayForEach(item, check->value)
    {
        struct place at = {.parent = check->place, .index = index++};
        struct check below = {.place = &at, .value = item, .problems = check->problems};
        if (schema->items) {
            check_value(schema->items, &below);
        }
        check->failed = check->failed || below.failed;
    }
    if (schema->list_set || schema->list_keys.count > 0) {
        check_duplicates(schema, check);
    }
}

static void check_members(const struct structural_schema *schema, struct check *check)
{
    size_t count = 0;
    const cJSON *member;
    cJSON_ArrayForEach(member, check->value)
    {
        const struct structural_schema *known = schema_of_member(schema, member->string);
        if (is_dropped(known, member)) {
            continue;
        }
        count++;
        struct place at = {.parent = check->place, .name = member->string};
        struct check below = {.place = &at, .value = member, .problems = check->problems};
        if (known) {
            check_value(known, &below);
        }
        check->failed = check->failed || below.failed;
    }
    if (count > schema->max_properties) {
        invalidf(check, "must have at most %zu members", schema->max_properties);
    }
    for (size_t i = 0; i < schema->required.count; i++) {
        if (!has_member(schema, check->value, schema->required.items[i])) {
            struct place at = {.parent = check->place, .name = schema->required.items[i]};
            report(check, SCHEMA_INVALID, &at, check->value, "is required");
        }
    }
}

/* "handler and sql" if each alternative asks for one member, and for nothing else. */
static bool name_alternatives(const struct schema_list *list, struct strbuf *out)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->items[i]->required.count != 1) {
            return false;
        }
        strbuf_appendf(out, "%s%s",
                       i == 0                ? ""
                       : i + 1 < list->count ? ", "
                                             : " and ",
                       list->items[i]->required.items[0]);
    }
    return true;
}

static size_t count_fitting(const struct schema_list *list, const struct check *check)
{
    size_t count = 0;
    for (size_t i = 0; i < list->count; i++) {
        count += fits(list->items[i], check);
    }
    return count;
}

static void check_alternatives(const struct structural_schema *schema, struct check *check)
{
    if (schema->one_of.count > 0 && count_fitting(&schema->one_of, check) != 1) {
        CLEANUP_STRBUF struct strbuf names;
        strbuf_init(&names, MESSAGE_MAX_BYTES / 2);
        bool named = name_alternatives(&schema->one_of, &names);
        invalidf(check, "must have exactly one of %s", named ? names.buf : "the schema's alternatives");
    }
    if (schema->any_of.count > 0 && !schema->int_or_string && count_fitting(&schema->any_of, check) == 0) {
        invalid(check, "must fit one of the schema's alternatives");
    }
    if (schema->not &&fits(schema->not, check)) {
        invalid(check, "must not have what the schema excludes");
    }
}

static void check_value(const struct structural_schema *schema, struct check *check)
{
    if (!check->value || (cJSON_IsNull(check->value) && schema->nullable)) {
        return;
    }
    if (!check_type(schema, check)) {
        return; /* one problem is enough */
    }
    if (schema->choices) {
        check_choices(schema, check);
    }
    if (cJSON_IsString(check->value)) {
        check_text(schema, check);
    } else if (cJSON_IsNumber(check->value)) {
        check_number(schema, check);
    } else if (cJSON_IsArray(check->value)) {
        check_list(schema, check);
    } else if (cJSON_IsObject(check->value)) {
        check_members(schema, check);
    }
    check_alternatives(schema, check);
}

void structural_schema_check(const struct structural_schema *schema, const cJSON *value, const char *path,
                             struct schema_problems *problems)
{
    struct place start = {.name = path};
    struct check check = {.place = &start, .value = value, .problems = problems};
    find_unknown(schema, value, &start, problems);
    check_value(schema, &check);
}
