/* handler.h - a shared object with a user's function, loaded and checked.
 *
 * Loaded RTLD_NOW | RTLD_LOCAL, so that a missing symbol shows here and not in a request. Never unloaded: threads of the
 * user's code may still run.
 */
#ifndef CICADA_HOST_HANDLER_H
#define CICADA_HOST_HANDLER_H

#include "runtime/base/err.h"
#include "runtime/sdk/cicada/function.h"

/* `file` is a path below `directory`, as spec_parse() checked it. ERR_INVALID, with the file, the symbol and the loader's own words. The
 * result lives as long as the process. */
int handler_load(const char *directory, const char *file, const char *symbol,
                 const struct cicada_function **ret_function, struct err *err) MUST_CHECK;
/* CICADA_READ_ONLY...; 0 for functions built before there were flags. */
uint32_t handler_flags(const struct cicada_function *function);

#endif
