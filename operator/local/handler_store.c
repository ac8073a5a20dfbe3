#include "operator/local/handler_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "operator/local/file_version.h"
#include "runtime/base/mem.h"

#define FOLDER_MODE 0755
#define FILE_MODE   0755

struct handler_copy {
    LIST_ENTRY(handler_copy) link;
    int refs;
    char *file, *folder;
    struct stat source;
};

struct handler_store {
    char *source_folder, *copy_folder;
    LIST_HEAD(, handler_copy) copies;
    unsigned long last_number;
};

struct handler_store *handler_store_new(const char *source_folder, const char *copy_folder)
{
    struct handler_store *store = xcalloc(1, sizeof *store);
    store->source_folder = xstrdup(source_folder);
    store->copy_folder = xstrdup(copy_folder);
    LIST_INIT(&store->copies);
    return store;
}

void handler_store_free(struct handler_store *store)
{
    if (!store) {
        return;
    }
    free(store->source_folder);
    free(store->copy_folder);
    free(store);
}

const char *handler_copy_folder(const struct handler_copy *copy)
{
    return copy->folder;
}

const char *handler_copy_file(const struct handler_copy *copy)
{
    return copy->file;
}

struct handler_copy *handler_copy_ref(struct handler_copy *copy)
{
    copy->refs++;
    return copy;
}

/* Makes the folders of root/file, or removes them: from the outermost on, or from the innermost. */
static void remove_folders(const char *root, const char *file)
{
    CLEANUP_FREE char *path = xasprintf("%s/%s", root, file);
    for (char *slash; (slash = strrchr(path, '/')) != NULL && strlen(path) > strlen(root);) {
        *slash = '\0';
        (void)rmdir(path);
    }
}

static int make_folders(const char *root, const char *file, struct err *err)
{
    CLEANUP_FREE char *path = xasprintf("%s/%s", root, file);
    for (char *slash = path + strlen(root); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(path, FOLDER_MODE) < 0 && errno != EEXIST) {
            return err_set_errno(err, errno, "%s", path);
        }
        *slash = '/';
    }
    return 0;
}

static int copy_bytes(int from, int to, off_t size, const char *name, struct err *err)
{
    for (off_t left = size; left > 0;) {
        ssize_t moved = sendfile(to, from, NULL, (size_t)left);
        if (moved < 0) {
            return err_set_errno(err, errno, "%s", name);
        }
        if (moved == 0) {
            return err_set(err, ERR_CONFLICT, "%s: is being written", name);
        }
        left -= moved;
    }
    return 0;
}

/* The copy counts only if the source did not change meanwhile. */
static int copy_file(const char *source, const char *target, struct stat *ret_source, struct err *err)
{
    CLEANUP_FD int from = open(source, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe would keep us waiting */
    if (from < 0) {
        return errno == ENOENT ? err_set(err, ERR_NOT_FOUND, "%s: there is no such file", source)
                               : err_set_errno(err, errno, "%s", source);
    }
    if (file_is_being_written(from)) {
        return err_set(err, ERR_CONFLICT, "%s: is being written", source);
    }
    struct stat before, after;
    if (fstat(from, &before) < 0) {
        return err_set_errno(err, errno, "%s", source);
    }
    if (!S_ISREG(before.st_mode) || before.st_size > HANDLER_FILE_MAX_BYTES) {
        return err_set(err, ERR_INVALID, "%s: must be a file of at most %d bytes", source,
                       HANDLER_FILE_MAX_BYTES);
    }
    CLEANUP_FD int to = open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, FILE_MODE);
    if (to < 0) {
        return err_set_errno(err, errno, "%s", target);
    }
    if (copy_bytes(from, to, before.st_size, source, err) < 0) {
        return -1;
    }
    if (fstat(from, &after) < 0 || !file_version_equal(&before, &after) || file_is_being_written(from)) {
        return err_set(err, ERR_CONFLICT, "%s: is being written", source);
    }
    *ret_source = after;
    file_version_keep(ret_source);
    return 0;
}

static void free_copy(struct handler_copy *copy)
{
    CLEANUP_FREE char *target = xasprintf("%s/%s", copy->folder, copy->file);
    (void)unlink(target);
    remove_folders(copy->folder, copy->file);
    (void)rmdir(copy->folder);
    free(copy->file);
    free(copy->folder);
    free(copy);
}

static int make_copy(struct handler_store *store, const char *source, const char *file,
                     struct handler_copy **ret_copy, struct err *err)
{
    struct handler_copy *copy = xcalloc(1, sizeof *copy);
    copy->refs = 1;
    copy->file = xstrdup(file);
    copy->folder = xasprintf("%s/%lu", store->copy_folder, ++store->last_number);
    CLEANUP_FREE char *target = xasprintf("%s/%s", copy->folder, file);
    if (make_folders(copy->folder, file, err) < 0 || copy_file(source, target, &copy->source, err) < 0) {
        free_copy(copy);
        return -1;
    }
    LIST_INSERT_HEAD(&store->copies, copy, link);
    *ret_copy = copy;
    return 0;
}

int handler_store_take(struct handler_store *store, const char *file, struct handler_copy **ret_copy,
                       struct err *err)
{
    CLEANUP_FREE char *source = xasprintf("%s/%s", store->source_folder, file);
    struct stat now;
    struct handler_copy *copy;
    if (stat(source, &now) == 0) {
        LIST_FOREACH(copy, &store->copies, link)
        {
            if (strcmp(copy->file, file) == 0 && file_version_equal(&copy->source, &now)) {
                *ret_copy = handler_copy_ref(copy);
                return 0;
            }
        }
    }
    return make_copy(store, source, file, ret_copy, err);
}

void handler_copy_unref(struct handler_copy *copy)
{
    if (copy && --copy->refs == 0) {
        LIST_REMOVE(copy, link);
        free_copy(copy);
    }
}
