/* manifest_paths.h - the files that arguments stand for, as with `kubectl apply -f`.
 *
 * An argument is a file, "-" (standard input), or a folder: its *.yaml, *.yml and *.json, sorted, without those of folders below it
 * and without names that begin with '.', which are editors' own.
 *
 * Threads: none of its own.
 */
#ifndef CICADA_LOCAL_MANIFEST_PATHS_H
#define CICADA_LOCAL_MANIFEST_PATHS_H

#include <stddef.h>

#include "runtime/base/err.h"

#define MANIFEST_FILES_MAX 10000

struct manifest_paths {
    char **items;
    size_t count;
};

#define MANIFEST_PATHS_INIT                                                                                  \
    {                                                                                                        \
        0                                                                                                    \
    }

/* Appends to paths. ERR_NOT_FOUND: an argument is not there, or a folder without manifests; ERR_TOO_LARGE: above MANIFEST_FILES_MAX.
 * A file is not opened. */
int manifest_paths_expand(const char *const *arguments, size_t argument_count, struct manifest_paths *paths,
                          struct err *err) MUST_CHECK;
void manifest_paths_release(struct manifest_paths *paths);
#define CLEANUP_MANIFEST_PATHS __attribute__((cleanup(manifest_paths_release)))

#endif
