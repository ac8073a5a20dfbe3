/* Files that were read: their end, what is wrong between them, how problems are printed. */
#include <string.h>

#include "operator/local/manifest.h"
#include "operator/local/manifest_data.h"
#include "runtime/base/mem.h"

void manifest_file_free(struct manifest_file *file)
{
    if (!file) {
        return;
    }
    for (size_t i = 0; i < file->object_count; i++) {
        struct manifest_object *object = &file->objects[i];
        free(object->namespace);
        free(object->name);
        function_spec_unref(object->spec);
        manifest_data_free(object->data, object->data_count);
    }
    for (size_t i = 0; i < file->problem_count; i++) {
        free(file->problems[i].path);
        free(file->problems[i].message);
    }
    free(file->objects);
    free(file->problems);
    free(file->path);
    free(file);
}

const char *manifest_kind_name(enum manifest_kind kind)
{
    static const char *const names[] = {"Function", "Secret", "ConfigMap"};
    return names[kind];
}

static const char *shown_path(const struct manifest_file *file)
{
    return strcmp(file->path, MANIFEST_STDIN) == 0 ? "<stdin>" : file->path;
}

void manifest_problem_print(const struct manifest_file *file, const struct manifest_problem *problem,
                            struct strbuf *out)
{
    strbuf_appendf(out, "%s:", shown_path(file));
    if (problem->line > 0) {
        strbuf_appendf(out, "%zu:%zu:", problem->line, problem->column);
    }
    strbuf_appendf(out, "%s %s%s%s\n", problem->warning ? " warning:" : "", problem->path,
                   problem->path[0] ? ": " : "", problem->message);
}

struct place {
    struct manifest_file *file;
    struct manifest_object *object;
    size_t ordinal; /* in all files */
};

static int compare_names(const struct place *a, const struct place *b)
{
    int order = (a->object->kind > b->object->kind) - (a->object->kind < b->object->kind);
    order = order ? order : strcmp(a->object->namespace, b->object->namespace);
    return order ? order : strcmp(a->object->name, b->object->name);
}

static int compare_places(const void *left, const void *right)
{
    const struct place *a = left, *b = right;
    int order = compare_names(a, b);
    return order ? order : (a->ordinal > b->ordinal) - (a->ordinal < b->ordinal);
}

static void refuse_second(const struct place *first, const struct place *second)
{
    const struct manifest_object *object = second->object;
    manifest_file_add(second->file, /* warning= */ false, object->line, object->column, "metadata.name",
                      "%s %s/%s is at %s:%zu as well", manifest_kind_name(object->kind), object->namespace,
                      object->name, shown_path(first->file), first->object->line);
    second->object->valid = false;
}

void manifest_files_check(struct manifest_file *const *files, size_t count)
{
    size_t total = 0, ordinal = 0;
    for (size_t i = 0; i < count; i++) {
        total += files[i]->object_count;
    }
    CLEANUP_FREE struct place *places = xcalloc(total + 1, sizeof places[0]);
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < files[i]->object_count; j++) {
            struct manifest_object *object = &files[i]->objects[j];
            if (object->spec) {
                object->spec->created_ms = (int64_t)ordinal;
            }
            places[ordinal] = (struct place){files[i], object, ordinal};
            ordinal++;
        }
    }
    qsort(places, total, sizeof places[0], compare_places);
    size_t first = 0;
    for (size_t i = 1; i < total; i++) {
        if (compare_names(&places[first], &places[i]) != 0) {
            first = i;
        } else if (places[i].object->name[0] != '\0') {
            refuse_second(&places[first], &places[i]);
        }
    }
}
