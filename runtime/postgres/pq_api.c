#include "runtime/postgres/pq_api.h"

#include <dlfcn.h>
#include <pthread.h>

struct pq_api pq;

/* Written under pthread_once(). */
static struct err load_err;
static pthread_once_t load_once = PTHREAD_ONCE_INIT;

static int load_function(void *library, const char *name, void *ret_function, size_t size)
{
    void *function = dlsym(library, name);
    if (!function)
        return err_set(&load_err, ERR_UNAVAILABLE, "%s has no %s", PQ_API_LIBRARY, name);
    memcpy(ret_function, &function, size); /* ISO C has no cast from object to function pointer */
    return 0;
}

static void load(void)
{
    /* Never closed: connections of any pool may use it until the process ends. Lazy, because it is most of a start: of its 20 libraries
     * some are not linked to bind all at once. */
    void *library = dlopen(PQ_API_LIBRARY, RTLD_LAZY | RTLD_LOCAL);
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

int pq_api_load(struct err *err)
{
    if (pthread_once(&load_once, load) != 0)
        return err_set(err, ERR_INTERNAL, "pthread_once failed");
    if (load_err.code != ERR_NONE) {
        *err = load_err;
        return -1;
    }
    return 0;
}
