#include "operator/local/manifest_validate.h"

#include "operator/local/manifest_paths.h"
#include "runtime/base/mem.h"

size_t manifest_problems_print(struct manifest_file *const *files, size_t count, FILE *out)
{
    size_t shown = 0, errors = 0, left_out = 0;
    for (size_t i = 0; i < count; i++) {
        const struct manifest_file *file = files[i];
        errors += file->error_count;
        left_out += file->left_out;
        for (size_t j = 0; j < file->problem_count; j++) {
            if (shown == MANIFEST_PROBLEMS_SHOWN_MAX) {
                left_out++;
                continue;
            }
            CLEANUP_STRBUF struct strbuf line;
            strbuf_init(&line, MANIFEST_PROBLEM_MAX_BYTES);
            manifest_problem_print(file, &file->problems[j], &line);
            fputs(line.buf, out);
            shown++;
        }
    }
    if (left_out > 0) {
        fprintf(out, "and %zu more\n", left_out);
    }
    return errors;
}

static void print_count(FILE *out, size_t count, const char *what)
{
    fprintf(out, "%zu %s%s", count, what, count == 1 ? "" : "s");
}

static int print_verdict(struct manifest_file *const *files, size_t count, FILE *out)
{
    size_t errors = manifest_problems_print(files, count, out);
    if (errors > 0) {
        print_count(out, errors, "problem");
        fputs("\n", out);
        return 1;
    }
    size_t of_kind[MANIFEST_CONFIG_MAP + 1] = {0};
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < files[i]->object_count; j++) {
            of_kind[files[i]->objects[j].kind]++;
        }
    }
    print_count(out, of_kind[MANIFEST_FUNCTION], "function");
    fputs(", ", out);
    print_count(out, of_kind[MANIFEST_SECRET], "secret");
    fputs(", ", out);
    print_count(out, of_kind[MANIFEST_CONFIG_MAP], "config map");
    fputs(": valid\n", out);
    return 0;
}

int manifest_validate(const struct manifest_reader *reader, const char *const *arguments,
                      size_t argument_count, FILE *out)
{
    CLEANUP_MANIFEST_PATHS struct manifest_paths paths = MANIFEST_PATHS_INIT;
    struct err err = ERR_INIT;
    if (manifest_paths_expand(arguments, argument_count, &paths, &err)) {
        fprintf(out, "%s\n1 problem\n", err.msg);
        return 1;
    }
    CLEANUP_FREE struct manifest_file **files = xcalloc(paths.count + 1, sizeof(struct manifest_file *));
    for (size_t i = 0; i < paths.count; i++) {
        files[i] = manifest_file_read(reader, paths.items[i]);
    }
    manifest_files_check(files, paths.count);
    int status = print_verdict(files, paths.count, out);
    for (size_t i = 0; i < paths.count; i++) {
        manifest_file_free(files[i]);
    }
    return status;
}
