#include "operator/local/manifest_paths.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "operator/local/manifest.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

static int add(struct manifest_paths *paths, char *path /* taken */, struct err *err)
{
    if (paths->count == MANIFEST_FILES_MAX) {
        free(path);
        return err_set(err, ERR_TOO_LARGE, "more than %d files", MANIFEST_FILES_MAX);
    }
    if (paths->count % 64 == 0) {
        paths->items = xreallocarray(paths->items, paths->count + 64, sizeof paths->items[0]);
    }
    paths->items[paths->count++] = path;
    return 0;
}

static int is_manifest(const struct dirent *entry)
{
    const char *name = entry->d_name;
    return name[0] != '.' &&
           (str_ends_with(name, ".yaml") || str_ends_with(name, ".yml") || str_ends_with(name, ".json"));
}

static int compare_names(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name); /* alphasort() depends on the locale */
}

static int add_folder(struct manifest_paths *paths, const char *folder, struct err *err)
{
    struct dirent **entries = NULL;
    int count = scandir(folder, &entries, is_manifest, compare_names);
    if (count < 0) {
        return err_set_errno(err, errno, "%s", folder);
    }
    size_t before = paths->count;
    int result = 0;
    for (int i = 0; i < count; i++) {
        char *path = xasprintf("%s%s%s", folder, str_ends_with(folder, "/") ? "" : "/", entries[i]->d_name);
        struct stat info;
        /* One that is gone by now is told about when it is read. */
        if (result || (stat(path, &info) == 0 && S_ISDIR(info.st_mode))) {
            free(path);
        } else {
            result = add(paths, path, err);
        }
        free(entries[i]);
    }
    free(entries);
    if (result == 0 && paths->count == before) {
        return err_set(err, ERR_NOT_FOUND, "%s: no *.yaml, *.yml or *.json in this folder", folder);
    }
    return result;
}

static int add_argument(struct manifest_paths *paths, const char *argument, struct err *err)
{
    struct stat info;
    if (strcmp(argument, MANIFEST_STDIN) == 0) {
        return add(paths, xstrdup(argument), err);
    }
    if (stat(argument, &info) != 0) {
        int error = errno;
        err_set_errno(err, error, "%s", argument);
        err->code = error == ENOENT || error == ENOTDIR ? ERR_NOT_FOUND : ERR_IO;
        return -1;
    }
    return S_ISDIR(info.st_mode) ? add_folder(paths, argument, err) : add(paths, xstrdup(argument), err);
}

int manifest_paths_expand(const char *const *arguments, size_t argument_count, struct manifest_paths *paths,
                          struct err *err)
{
    for (size_t i = 0; i < argument_count; i++) {
        if (add_argument(paths, arguments[i], err)) {
            return -1;
        }
    }
    return 0;
}

void manifest_paths_release(struct manifest_paths *paths)
{
    for (size_t i = 0; i < paths->count; i++) {
        free(paths->items[i]);
    }
    free(paths->items);
    *paths = (struct manifest_paths)MANIFEST_PATHS_INIT;
}
