#include "operator/local/postgres_folder.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "operator/local/state_folder.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

#define FOLDER_MODE     0700
#define FALLBACK_FOLDER "/var/tmp/cicada-postgres-"

/* The first folder on the way that is closed to the server's user; NULL: it gets there. */
static char *closed_folder(const char *wanted, const struct postgres_user *user)
{
    CLEANUP_FREE char *path = xstrdup(wanted);
    for (char *slash; user->is_another && (slash = strrchr(path, '/')) != NULL && slash > path;) {
        struct stat status;
        *slash = '\0';
        if (stat(path, &status) == 0 && (status.st_mode & S_IXOTH) == 0 && status.st_uid != user->uid) {
            return steal_ptr(&path);
        }
    }
    return NULL;
}

/* As root the server is another user, who may not get to the state folder (below /root, say). */
char *postgres_folder_choose(const char *wanted, const struct postgres_user *user, struct console *console)
{
    CLEANUP_FREE char *closed = closed_folder(wanted, user);
    if (!closed) {
        return xstrdup(wanted);
    }
    char *folder =
        xasprintf(FALLBACK_FOLDER "%016" PRIx64, hash_fnv1a(HASH_FNV1A_START, wanted, strlen(wanted)));
    console_say(console, "%s is closed to PostgreSQL's user: its files are in %s", closed, folder);
    return folder;
}

/* One of that name may be somebody else's: what is in /var/tmp may be made by anybody. */
static int check_owner(const char *folder, const struct postgres_user *user, struct err *err)
{
    struct stat status;
    if (lstat(folder, &status) < 0) {
        return err_set_errno(err, errno, "%s", folder);
    }
    bool ours = status.st_uid == geteuid() || (user->is_another && status.st_uid == user->uid);
    if (!S_ISDIR(status.st_mode) || !ours) {
        return err_set(err, ERR_FORBIDDEN, "%s: is somebody else's", folder);
    }
    return 0;
}

int postgres_folder_make(const char *folder, const struct postgres_user *user, struct err *err)
{
    if (mkdir(folder, FOLDER_MODE) < 0 && errno != EEXIST) {
        return err_set_errno(err, errno, "%s", folder);
    }
    if (check_owner(folder, user, err) < 0) {
        return -1;
    }
    if (user->is_another && chown(folder, user->uid, user->gid) < 0) {
        return err_set_errno(err, errno, "%s", folder);
    }
    return 0;
}

/* Every process of a server works in its data's folder. */
bool postgres_folder_in_use(const char *data)
{
    DIR *processes = opendir("/proc");
    bool found = false;
    for (const struct dirent *entry; processes && !found && (entry = readdir(processes)) != NULL;) {
        char path[PATH_MAX];
        CLEANUP_FREE char *link = xasprintf("/proc/%s/cwd", entry->d_name);
        ssize_t len = readlink(link, path, sizeof path);
        found = len == (ssize_t)strlen(data) && memcmp(path, data, (size_t)len) == 0;
    }
    if (processes) {
        closedir(processes);
    }
    return found;
}

void postgres_folder_remove_halves(const char *folder)
{
    DIR *entries = opendir(folder);
    for (const struct dirent *entry; entries && (entry = readdir(entries)) != NULL;) {
        struct err err = ERR_INIT;
        CLEANUP_FREE char *half = xasprintf("%s/%s", folder, entry->d_name);
        if (str_starts_with(entry->d_name, POSTGRES_HALF_PREFIX) && remove_tree(half, &err) < 0) {
            log_debug("%s, ignoring", err.msg);
        }
    }
    if (entries) {
        closedir(entries);
    }
}
