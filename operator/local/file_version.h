/* file_version.h - whether a file that was read is still the same, and whether it is complete.
 *
 * Editors and builds write into the very files that are read here, at any moment. Threads: none of its own.
 */
#ifndef CICADA_LOCAL_FILE_VERSION_H
#define CICADA_LOCAL_FILE_VERSION_H

#include <stdbool.h>
#include <sys/stat.h>

/* By device, inode, size and time. */
bool file_version_equal(const struct stat *a, const struct stat *b);
/* Before a version is kept to compare with: one that changed a moment ago is made equal to none, since files' times are coarse, and
 * the next change may not show. */
void file_version_keep(struct stat *version);
/* Whether somebody has it open for writing, as far as the file's owner may know. */
bool file_is_being_written(int fd);
/* Whether that file is now this very version, and nobody writes it. */
bool file_version_is_complete(const char *path, const struct stat *version);

#endif
