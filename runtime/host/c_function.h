/* c_function.h - a function whose answers a handler in C makes: loaded, initialised, invoked, shut down.
 *
 * Threads: started and stopped by one; invoked by many at once.
 */
#ifndef CICADA_HOST_C_FUNCTION_H
#define CICADA_HOST_C_FUNCTION_H

#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/host/invocation.h"
#include "runtime/sdk/cicada/function.h"

struct c_function {
    const struct cicada_function *function;
    void *state; /* what init made */
};

struct c_function_settings {
    const char *directory, *file, *symbol;
    const char *name, *namespace; /* the Function's */
    int64_t init_timeout_ms;      /* what init sees as its deadline */
};

/* Loads the handler and runs its init. ERR_INVALID: why it can't serve. */
int c_function_start(struct c_function *self, const struct c_function_settings *settings,
                     struct err *err) MUST_CHECK;
void c_function_stop(struct c_function *self); /* its shutdown; nothing if it was not started */

extern const struct invoker_ops c_function_ops; /* self: struct c_function */

#endif
