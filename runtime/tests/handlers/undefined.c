/* undefined.c - a handler that needs a symbol nobody has: the loader must say so at start. */
#include <cicada/function.h>

int cicada_test_symbol_of_nobody(void);

static int undefined(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    (void)req;
    (void)ctx;
    (void)res;
    return cicada_test_symbol_of_nobody();
}

CICADA_FUNCTION(undefined);
