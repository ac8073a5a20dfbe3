#include "runtime/base/json_node.h"

#include <string.h>

#include "runtime/base/json_number.h"

const struct json_node *json_doc_root(const struct json_doc *doc)
{
    return &doc->nodes[0];
}

enum json_type json_node_type(const struct json_node *node)
{
    return node->type;
}

const char *json_node_raw(const struct json_node *node, size_t *ret_len)
{
    *ret_len = node->raw_len;
    return node->raw;
}

const char *json_node_string(const struct json_node *node, size_t *ret_len)
{
    if (node->type != JSON_STRING) {
        return NULL;
    }
    if (ret_len) {
        *ret_len = node->string_len;
    }
    return node->string;
}

bool json_node_int64(const struct json_node *node, int64_t *ret_value)
{
    return node->type == JSON_NUMBER && json_number_int64(node->raw, node->raw_len, ret_value);
}

bool json_node_double(const struct json_node *node, double *ret_value)
{
    return node->type == JSON_NUMBER && json_number_double(node->raw, node->raw_len, ret_value);
}

const struct json_node *json_node_member(const struct json_node *object, const char *name)
{
    if (object->type != JSON_OBJECT) {
        return NULL;
    }
    size_t len = strlen(name);
    for (const struct json_node *member = json_node_first(object); member; member = json_node_next(member)) {
        if (member->name_len == len && memcmp(member->name, name, len) == 0) {
            return member;
        }
    }
    return NULL;
}

size_t json_node_count(const struct json_node *node)
{
    return node->count;
}

const struct json_node *json_node_first(const struct json_node *node)
{
    return node->count > 0 ? node + 1 : NULL;
}

const struct json_node *json_node_next(const struct json_node *node)
{
    return node->next > 0 ? node + node->next : NULL;
}

const char *json_node_name(const struct json_node *node, size_t *ret_len)
{
    if (ret_len && node->name) {
        *ret_len = node->name_len;
    }
    return node->name;
}
