#include "operator/local/postgres_programs.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"

#define DEBIAN_FOLDER     "/usr/lib/postgresql"
#define MAJOR_VERSION_MAX 1000

static bool has_programs(const char *folder)
{
    CLEANUP_FREE char *initdb = xasprintf("%s/initdb", folder), *postgres = xasprintf("%s/postgres", folder);
    return access(initdb, X_OK) == 0 && access(postgres, X_OK) == 0;
}

/* Debian has a folder for each major version. */
static char *find_debian_programs(void)
{
    DIR *folder = opendir(DEBIAN_FOLDER);
    char *best = NULL;
    int64_t best_version = 0, version;
    for (const struct dirent *entry; folder && (entry = readdir(folder)) != NULL;) {
        CLEANUP_FREE char *path = xasprintf(DEBIAN_FOLDER "/%s/bin", entry->d_name);
        if (parse_int64(entry->d_name, 1, MAJOR_VERSION_MAX, &version) && version > best_version &&
            has_programs(path)) {
            free(best);
            best = steal_ptr(&path);
            best_version = version;
        }
    }
    if (folder) {
        closedir(folder);
    }
    return best;
}

static char *find_in_path(void)
{
    const char *path = getenv("PATH");
    while (path && *path) {
        size_t len = strcspn(path, ":");
        CLEANUP_FREE char *folder = xstrndup(path, len);
        if (len > 0 && has_programs(folder)) {
            return steal_ptr(&folder);
        }
        path += len + (path[len] == ':' ? 1 : 0);
    }
    return NULL;
}

int postgres_programs_find(const char *asked, char **ret_folder, struct err *err)
{
    char *folder = NULL;
    if (asked) {
        folder = has_programs(asked) ? xstrdup(asked) : NULL;
    } else {
        folder = find_debian_programs();
        folder = folder ? folder : find_in_path();
    }
    if (!folder) {
        return err_set(err, ERR_NOT_FOUND,
                       "no PostgreSQL server programs (initdb, postgres) in %s: install postgresql, or give "
                       "--database-url",
                       asked ? asked : DEBIAN_FOLDER "/*/bin or PATH");
    }
    *ret_folder = folder;
    return 0;
}
