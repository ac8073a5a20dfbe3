#include "operator/local/file_version.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define COARSE_MS 20 /* files' times are those of the kernel's tick, of 10 ms at most */

bool file_version_equal(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

void file_version_keep(struct stat *version)
{
    int64_t changed_ms = version->st_mtim.tv_sec * 1000LL + version->st_mtim.tv_nsec / 1000000;
    if (llabs(clock_wall_ms() - changed_ms) < COARSE_MS) {
        version->st_ino = 0;
    }
}

/* Nobody is granted a lease on a file that somebody has open for writing. A file of another user, or a file system without leases: we
 * don't know. Who opens it in the moment between is not kept waiting: the signal, which is ignored, is all that comes of it. */
bool file_is_being_written(int fd)
{
    if (fcntl(fd, F_SETSIG, SIGURG) < 0) {
        return false;
    }
    if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0) {
        return errno == EAGAIN;
    }
    (void)fcntl(fd, F_SETLEASE, F_UNLCK);
    return false;
}

bool file_version_is_complete(const char *path, const struct stat *version)
{
    struct stat now;
    CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    return fd >= 0 && fstat(fd, &now) == 0 && file_version_equal(&now, version) && !file_is_being_written(fd);
}
