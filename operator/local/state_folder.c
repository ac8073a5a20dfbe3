#include "operator/local/state_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"

#define FOLDER_MODE     0755
#define FTW_DESCRIPTORS 16

struct state_folder {
    char *path, *handlers, *run;
    int lock_fd;
};

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *position)
{
    (void)status;
    (void)type;
    (void)position;
    return remove(path);
}

int remove_tree(const char *path, struct err *err)
{
    if (nftw(path, remove_entry, FTW_DESCRIPTORS, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT) {
        return err_set_errno(err, errno, "%s", path);
    }
    return 0;
}

static int make_folder(const char *path, struct err *err)
{
    if (mkdir(path, FOLDER_MODE) < 0 && errno != EEXIST) {
        return err_set_errno(err, errno, "%s", path);
    }
    return 0;
}

static int make_with_parents(const char *path, struct err *err)
{
    CLEANUP_FREE char *part = xstrdup(path);
    for (char *slash = part + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        if (make_folder(part, err) < 0) {
            return -1;
        }
        *slash = '/';
    }
    return make_folder(path, err);
}

static int make_empty(const char *path, struct err *err)
{
    return remove_tree(path, err) < 0 ? -1 : make_folder(path, err);
}

static int take_lock(struct state_folder *folder, struct err *err)
{
    CLEANUP_FREE char *path = xasprintf("%s/lock", folder->path);
    folder->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (folder->lock_fd < 0) {
        return err_set_errno(err, errno, "%s", path);
    }
    if (flock(folder->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        return errno == EWOULDBLOCK
                   ? err_set(err, ERR_CONFLICT, "%s: another cicada-local uses it; see --state-dir",
                             folder->path)
                   : err_set_errno(err, errno, "%s", path);
    }
    return 0;
}

int state_folder_open(const char *path, struct state_folder **ret_folder, struct err *err)
{
    if (make_with_parents(path, err) < 0) {
        return -1;
    }
    char *absolute = realpath(path, NULL);
    if (!absolute) {
        return err_set_errno(err, errno, "%s", path);
    }
    struct state_folder *folder = xcalloc(1, sizeof *folder);
    folder->path = absolute;
    folder->handlers = xasprintf("%s/handlers", absolute);
    folder->run = xasprintf("%s/run", absolute);
    if (take_lock(folder, err) < 0 || make_empty(folder->handlers, err) < 0 ||
        make_empty(folder->run, err) < 0) {
        fd_close_p(&folder->lock_fd);
        free(folder->path);
        free(folder->handlers);
        free(folder->run);
        free(folder);
        return -1;
    }
    *ret_folder = folder;
    return 0;
}

void state_folder_close(struct state_folder *folder)
{
    struct err err = ERR_INIT;
    if (!folder) {
        return;
    }
    if (remove_tree(folder->handlers, &err) < 0 || remove_tree(folder->run, &err) < 0) {
        log_warn("%s; the next start removes it", err.msg);
    }
    fd_close_p(&folder->lock_fd);
    free(folder->path);
    free(folder->handlers);
    free(folder->run);
    free(folder);
}

const char *state_folder_path(const struct state_folder *folder)
{
    return folder->path;
}

const char *state_folder_handlers(const struct state_folder *folder)
{
    return folder->handlers;
}

const char *state_folder_run(const struct state_folder *folder)
{
    return folder->run;
}
