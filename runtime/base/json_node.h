/* json_node.h - how json_reader.c lays a document out for json_node.c. Internal to runtime/base. */
#ifndef CICADA_BASE_JSON_NODE_H
#define CICADA_BASE_JSON_NODE_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/json_reader.h"

/* Nodes stand in document order: the first child follows its parent, and siblings are linked by distance, so that the
 * array may move while it grows. */
struct json_node {
    const char *raw;
    const char *string; /* decoded, in the document's arena; NULL if no string */
    const char *name;   /* decoded, in the arena; NULL in arrays and at the root */
    uint32_t raw_len;
    uint32_t string_len;
    uint32_t name_len;
    uint32_t next; /* distance to the next sibling, 0 if last */
    uint32_t count;
    enum json_type type;
};

struct json_doc {
    struct json_node *nodes;
    size_t count, alloc;
    char *arena_end;
    char arena[]; /* as long as the text: a decoded string and its NUL are shorter than the quoted source */
};

#endif
