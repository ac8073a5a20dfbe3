/* yaml_marks.h - where the nodes of a tree stand in the YAML text that it was read from.
 *
 * A member of a mapping has the position of its name, which is what a person looks for; an element of a list, and a document,
 * that of its value. Lines and columns count from 1, columns in characters.
 *
 * Ownership: marks only compare the nodes' addresses, so they may outlive the tree; then they must not be asked.
 * Threads: immutable once returned by the parser.
 */
#ifndef CICADA_BASE_YAML_MARKS_H
#define CICADA_BASE_YAML_MARKS_H

#include <cjson/cJSON.h>
#include <stddef.h>

struct yaml_mark {
    size_t line, column;
};

struct yaml_marks;

/* NULL: the node was not read from that text. marks may be NULL. Borrowed. */
const struct yaml_mark *yaml_marks_find(const struct yaml_marks *marks, const cJSON *node);
void yaml_marks_free(struct yaml_marks *marks); /* NULL is fine */

static inline void yaml_marks_free_p(struct yaml_marks **marks)
{
    yaml_marks_free(*marks);
}
#define CLEANUP_YAML_MARKS __attribute__((cleanup(yaml_marks_free_p)))

/* For the parser: nodes in any order, then once the end. */
struct yaml_marks *yaml_marks_new(void);
void yaml_marks_add(struct yaml_marks *marks, const cJSON *node, struct yaml_mark mark);
void yaml_marks_finish(struct yaml_marks *marks);

#endif
