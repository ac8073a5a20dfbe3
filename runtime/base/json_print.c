/* Printing, comparing and hashing of trees for json.h. */
#include <math.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/json_number.h"
#include "runtime/base/json_reader.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

/* For json_print_dup(), whose trees are our own and far smaller. */
#define PRINT_DUP_MAX_BYTES (256u << 20)

static int print_item(const cJSON *item, int depth, struct strbuf *out, struct err *err);

static int print_children(const cJSON *parent, int depth, struct strbuf *out, struct err *err)
{
    if (depth == JSON_READER_DEPTH_MAX) {
        return err_set(err, ERR_INVALID, "JSON tree is nested too deeply");
    }
    bool object = cJSON_IsObject(parent);
    strbuf_append_char(out, object ? '{' : '[');
    for (const cJSON *child = parent->child; child; child = child->next) {
        if (child != parent->child) {
            strbuf_append_char(out, ',');
        }
        if (object) {
            strbuf_append_json_string(out, child->string, strlen(child->string));
            strbuf_append_char(out, ':');
        }
        if (print_item(child, depth + 1, out, err) < 0) {
            return -1;
        }
    }
    strbuf_append_char(out, object ? '}' : ']');
    return 0;
}

static int print_number(double value, struct strbuf *out, struct err *err)
{
    if (!isfinite(value)) {
        return err_set(err, ERR_INVALID, "a number that is not finite has no JSON form");
    }
    char digits[FORMAT_DOUBLE_SIZE];
    strbuf_append(out, digits, format_double(value, digits));
    return 0;
}

static int print_item(const cJSON *item, int depth, struct strbuf *out, struct err *err)
{
    switch (item->type & 0xFF) {
    case cJSON_NULL:
        strbuf_append_str(out, "null");
        return 0;
    case cJSON_False:
        strbuf_append_str(out, "false");
        return 0;
    case cJSON_True:
        strbuf_append_str(out, "true");
        return 0;
    case cJSON_Number:
        return print_number(item->valuedouble, out, err);
    case cJSON_String:
        strbuf_append_json_string(out, item->valuestring, strlen(item->valuestring));
        return 0;
    case cJSON_Raw:
        strbuf_append_str(out, item->valuestring);
        return 0;
    case cJSON_Array:
    case cJSON_Object:
        return print_children(item, depth, out, err);
    default:
        return err_set(err, ERR_INTERNAL, "JSON tree with an item of no type");
    }
}

int json_print(const cJSON *tree, struct strbuf *out, struct err *err)
{
    if (print_item(tree, 0, out, err) < 0) {
        return -1;
    }
    return strbuf_failed(out) ? err_set(err, ERR_TOO_LARGE, "JSON text larger than %zu bytes", out->cap) : 0;
}

char *json_print_dup(const cJSON *tree)
{
    struct err err = ERR_INIT;
    CLEANUP_STRBUF struct strbuf out;
    strbuf_init(&out, PRINT_DUP_MAX_BYTES);
    if (json_print(tree, &out, &err) < 0) {
        fprintf(stderr, "json_print_dup: %s\n", err.msg);
        abort();
    }
    return strbuf_detach(&out, NULL);
}

/* Numbers that were added as raw text count as numbers. */
static bool number_value(const cJSON *item, double *ret_value)
{
    if (cJSON_IsNumber(item)) {
        *ret_value = item->valuedouble;
        return true;
    }
    return cJSON_IsRaw(item) && json_number_double(item->valuestring, strlen(item->valuestring), ret_value);
}

bool json_covers(const cJSON *live, const cJSON *intent)
{
    double live_number, intent_number;
    if (number_value(intent, &intent_number)) {
        return number_value(live, &live_number) && live_number == intent_number;
    }
    if ((live->type & 0xFF) != (intent->type & 0xFF)) {
        return false;
    }
    if (cJSON_IsString(intent)) {
        return strcmp(live->valuestring, intent->valuestring) == 0;
    }
    if (cJSON_IsObject(intent)) {
        for (const cJSON *want = intent->child; want; want = want->next) {
            const cJSON *have = json_get(live, want->string);
            if (!have || !json_covers(have, want)) {
                return false;
            }
        }
        return true;
    }
    if (cJSON_IsArray(intent)) {
        const cJSON *have = live->child, *want = intent->child;
        for (; have && want; have = have->next, want = want->next) {
            if (!json_covers(have, want)) {
                return false;
            }
        }
        return !have && !want;
    }
    return true; /* null, true, false: the type is the value */
}

struct member {
    const cJSON *item;
};

static int compare_names(const void *left, const void *right)
{
    const struct member *a = left, *b = right;
    return strcmp(a->item->string, b->item->string);
}

static uint64_t hash_item(uint64_t hash, const cJSON *item);

static uint64_t hash_object(uint64_t hash, const cJSON *object)
{
    size_t count = 0;
    for (const cJSON *member = object->child; member; member = member->next) {
        count++;
    }
    CLEANUP_FREE struct member *members = xreallocarray(NULL, count, sizeof(struct member));
    size_t i = 0;
    for (const cJSON *member = object->child; member; member = member->next) {
        members[i++].item = member;
    }
    qsort(members, count, sizeof(struct member), compare_names);
    for (i = 0; i < count; i++) {
        hash = hash_fnv1a(hash, members[i].item->string, strlen(members[i].item->string) + 1);
        hash = hash_item(hash, members[i].item);
    }
    return hash_fnv1a(hash, "}", 1);
}

/* Each value is hashed with a leading type and a definite end, so that different trees give different bytes. */
static uint64_t hash_item(uint64_t hash, const cJSON *item)
{
    char digits[FORMAT_DOUBLE_SIZE];
    switch (item->type & 0xFF) {
    case cJSON_Object:
        return hash_object(hash_fnv1a(hash, "{", 1), item);
    case cJSON_Array:
        hash = hash_fnv1a(hash, "[", 1);
        for (const cJSON *child = item->child; child; child = child->next) {
            hash = hash_item(hash, child);
        }
        return hash_fnv1a(hash, "]", 1);
    case cJSON_String:
        return hash_fnv1a(hash_fnv1a(hash, "s", 1), item->valuestring, strlen(item->valuestring) + 1);
    case cJSON_Raw:
        return hash_fnv1a(hash_fnv1a(hash, "d", 1), item->valuestring, strlen(item->valuestring) + 1);
    case cJSON_Number:
        format_double(item->valuedouble, digits);
        return hash_fnv1a(hash_fnv1a(hash, "d", 1), digits, strlen(digits) + 1);
    default:
        return hash_fnv1a(hash, cJSON_IsNull(item) ? "n" : cJSON_IsTrue(item) ? "t" : "f", 1);
    }
}

uint64_t json_hash(const cJSON *tree)
{
    return hash_item(HASH_FNV1A_START, tree);
}
