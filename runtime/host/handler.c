#include "runtime/host/handler.h"

#include <dlfcn.h>

#include "runtime/base/mem.h"
#include "runtime/base/version.h"

/* Of the first release's struct cicada_function, which had no flags. */
#define FIRST_SIZE offsetof(struct cicada_function, flags)

uint32_t handler_flags(const struct cicada_function *function)
{
    return function->size >= FIRST_SIZE + sizeof(function->flags) ? function->flags : 0;
}

static int check_abi(const struct cicada_function *function, struct err *err)
{
    if (function->abi_version != CICADA_ABI_VERSION)
        return err_set(err, ERR_INVALID, "built for ABI version %u, this runtime has %d",
                       function->abi_version, CICADA_ABI_VERSION);
    if (function->calls_size > sizeof(struct cicada_calls) || function->size > sizeof(struct cicada_function))
        return err_set(err, ERR_INVALID,
                       "built with the header of a newer runtime than this one (" CICADA_VERSION ")");
    if (function->size < FIRST_SIZE || function->handle == NULL)
        return err_set(err, ERR_INVALID, "cicada_function is incomplete; define it with CICADA_FUNCTION()");
    if ((handler_flags(function) & ~CICADA_READ_ONLY) != 0)
        return err_set(err, ERR_INVALID, "has flags that this runtime (" CICADA_VERSION ") does not know");
    return 0;
}

/* dlerror() is per thread and says which file and why. */
static const char *loader_error(void)
{
    const char *text = dlerror();
    return text ? text : "unknown error of the dynamic loader";
}

static int load(const char *directory, const char *file, const char *symbol,
                const struct cicada_function **ret_function, struct err *err)
{
    CLEANUP_FREE char *path = xasprintf("%s/%s", directory, file);
    CLEANUP_FREE char *name = xasprintf("cicada_function_%s", symbol);
    const struct cicada_function *function;
    void *object;

    object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (object == NULL)
        return err_set(err, ERR_INVALID, "%s", loader_error());
    function = dlsym(object, name);
    if (function == NULL)
        err_set(err, ERR_INVALID, "%s (exported by CICADA_FUNCTION(%s))", loader_error(), symbol);
    else if (check_abi(function, err) == 0) {
        *ret_function = function;
        return 0;
    }
    dlclose(object); /* nothing of it has run but constructors */
    return -1;
}

int handler_load(const char *directory, const char *file, const char *symbol,
                 const struct cicada_function **ret_function, struct err *err)
{
    if (load(directory, file, symbol, ret_function, err) != 0)
        return err_wrap(err, "%s:%s", file, symbol);
    return 0;
}
