#include "runtime/base/yaml_marks.h"

#include <stdint.h>
#include <stdlib.h>

#include "runtime/base/mem.h"

struct marked {
    uintptr_t node;
    struct yaml_mark mark;
};

/* Sorted by node once it is finished. */
struct yaml_marks {
    struct marked *items;
    size_t count, alloc;
};

struct yaml_marks *yaml_marks_new(void)
{
    return xcalloc(1, sizeof(struct yaml_marks));
}

void yaml_marks_free(struct yaml_marks *marks)
{
    if (marks) {
        free(marks->items);
        free(marks);
    }
}

void yaml_marks_add(struct yaml_marks *marks, const cJSON *node, struct yaml_mark mark)
{
    if (marks->count == marks->alloc) {
        marks->alloc = marks->alloc ? marks->alloc * 2 : 64;
        marks->items = xreallocarray(marks->items, marks->alloc, sizeof marks->items[0]);
    }
    marks->items[marks->count++] = (struct marked){.node = (uintptr_t)node, .mark = mark};
}

static int compare_nodes(const void *left, const void *right)
{
    const struct marked *a = left, *b = right;
    return (a->node > b->node) - (a->node < b->node);
}

void yaml_marks_finish(struct yaml_marks *marks)
{
    if (marks->count > 1) {
        qsort(marks->items, marks->count, sizeof marks->items[0], compare_nodes);
    }
}

const struct yaml_mark *yaml_marks_find(const struct yaml_marks *marks, const cJSON *node)
{
    if (!marks || marks->count == 0) {
        return NULL;
    }
    const struct marked wanted = {.node = (uintptr_t)node};
    const struct marked *found =
        bsearch(&wanted, marks->items, marks->count, sizeof marks->items[0], compare_nodes);
    return found ? &found->mark : NULL;
}
