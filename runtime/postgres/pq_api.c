#include "runtime/postgres/pq_api.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* From the folder of the program: in a build, an installation and an image alike. */
#define WITHOUT_LDAP "../lib/cicada/without-ldap.so"

struct pq_api pq;

/* Guarded by load_lock. */
static bool loaded; /* or tried to */
static struct err load_err;
static pthread_mutex_t load_lock = PTHREAD_MUTEX_INITIALIZER;

static int load_function(void *library, const char *name, void *ret_function, size_t size)
{
    void *function = dlsym(library, name);
    if (!function)
        return err_set(&load_err, ERR_UNAVAILABLE, "%s has no %s", PQ_API_LIBRARY, name);
    memcpy(ret_function, &function, size); /* ISO C has no cast from object to function pointer */
    return 0;
}

/* Lazy, because it is most of a start, and of its 20 libraries some are not linked to bind all at once. */
static void *open_libpq(void)
{
    return dlopen(PQ_API_LIBRARY, RTLD_LAZY | RTLD_LOCAL);
}

/* Not by $ORIGIN, which to a sanitizer's dlopen() is the folder of the sanitizer. */
static void *open_stand_in(void)
{
    char program[PATH_MAX], path[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", program, sizeof(program));
    while (len > 0 && program[len - 1] != '/')
        len--;
    if (len <= 0)
        return NULL;
    int needed = snprintf(path, sizeof(path), "%.*s" WITHOUT_LDAP, (int)len, program);
    return (size_t)needed < sizeof(path) ? dlopen(path, RTLD_LAZY | RTLD_LOCAL) : NULL;
}

/* Half of the time to load libpq is libldap with GnuTLS and ten more, which libpq calls only for a service file that names an LDAP server.
 * The loader takes the stand-in for libldap, because it bears its name. NULL: it could not be done so. */
static void *open_without_ldap(void)
{
    void *stand_in = open_stand_in();
    void *library = stand_in ? open_libpq() : NULL;
    if (stand_in && !library)
        (void)dlclose(stand_in);
    return library;
}

static void load(bool without_ldap)
{
    /* There is no other way to name a service: it is no key that an URL may have. */
    bool has_service = getenv("PGSERVICE") != NULL;
    /* Never closed: connections of any pool may use it until the process ends. */
    void *library = without_ldap && !has_service ? open_without_ldap() : NULL;
    if (!library)
        library = open_libpq();
    if (!library) {
        const char *reason = dlerror();
        (void)err_set(&load_err, ERR_UNAVAILABLE, "%s", reason ? reason : PQ_API_LIBRARY);
        return;
    }
#define PQ_API_LOAD(name)                                                                                    \
    if (load_function(library, #name, &pq.name, sizeof(pq.name)) < 0)                                        \
        return;
    PQ_API_FUNCTIONS(PQ_API_LOAD)
#undef PQ_API_LOAD
}

int pq_api_load(bool without_ldap, struct err *err)
{
    (void)pthread_mutex_lock(&load_lock);
    if (!loaded)
        load(without_ldap);
    loaded = true;
    (void)pthread_mutex_unlock(&load_lock);
    if (load_err.code != ERR_NONE) { /* fixed from now on */
        *err = load_err;
        return -1;
    }
    return 0;
}
