/* abi.c - functions that were built for another runtime, or by hand and wrongly. */
#include <cicada/function.h>

static int handle(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    (void)req;
    (void)ctx;
    (void)res;
    return CICADA_OK;
}

#define DEFINE(function, version, table_size, handler)                                                       \
    extern CICADA_EXPORT const struct cicada_function cicada_function_##function;                            \
    const struct cicada_function cicada_function_##function = {.abi_version = (version),                     \
                                                               .size = sizeof(struct cicada_function),       \
                                                               .calls_size = (table_size),                   \
                                                               .name = #function,                            \
                                                               .handle = (handler)}

DEFINE(other_version, CICADA_ABI_VERSION + 1, sizeof(struct cicada_calls), handle);
DEFINE(newer_table, CICADA_ABI_VERSION, sizeof(struct cicada_calls) + 8, handle);
DEFINE(older_table, CICADA_ABI_VERSION, sizeof(struct cicada_calls) - 8, handle);
DEFINE(no_handler, CICADA_ABI_VERSION, sizeof(struct cicada_calls), NULL);
