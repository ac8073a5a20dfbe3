/* A file of manifests from any bytes: it never fails, every problem has its place, and a valid Function is one that the operator
 * takes as well. */
#include <stdlib.h>
#include <string.h>

#include "operator/local/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool truth)
{
    if (!truth) {
        abort();
    }
}

static void check_object(const struct manifest_object *object)
{
    require(object->line > 0 && object->column > 0);
    require((object->spec != NULL) == (object->valid && object->kind == MANIFEST_FUNCTION));
    if (object->valid) {
        require(object->name[0] && object->namespace[0]);
    }
    for (size_t i = 0; i < object->data_count; i++) {
        require(object->data[i].bytes[object->data[i].len] == '\0');
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct manifest_reader *reader;
    struct err err = ERR_INIT;
    if (!reader) {
        require(manifest_reader_new("default", &reader, &err) == 0);
    }
    struct manifest_file *file = manifest_text_read(reader, "m", (const char *)data, size);
    for (size_t i = 0; i < file->object_count; i++) {
        check_object(&file->objects[i]);
    }
    size_t errors = 0;
    for (size_t i = 0; i < file->problem_count; i++) {
        const struct manifest_problem *problem = &file->problems[i];
        errors += !problem->warning;
        require(problem->message[0] != '\0');
        require(i == 0 || file->problems[i - 1].line <= problem->line);
    }
    require(file->left_out > 0 || errors == file->error_count);
    manifest_files_check(&file, 1);
    manifest_file_free(file);
    return 0;
}
