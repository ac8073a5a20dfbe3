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

#define DEFINE_SIZED(function, function_size, function_flags)                                                \
    extern CICADA_EXPORT const struct cicada_function cicada_function_##function;                            \
    const struct cicada_function cicada_function_##function = {.abi_version = CICADA_ABI_VERSION,            \
                                                               .size = (function_size),                      \
                                                               .calls_size = sizeof(struct cicada_calls),    \
                                                               .name = #function,                            \
                                                               .handle = handle,                             \
                                                               .flags = (function_flags)}

/* Before there were flags: what lies behind it says nothing. */
DEFINE_SIZED(older_function, offsetof(struct cicada_function, flags), 0xffffffffu);
DEFINE_SIZED(cut_function, 40, 0);
DEFINE_SIZED(unknown_flag, sizeof(struct cicada_function), 1u << 31);
