/* handlers.c - the functions that are measured, written as any user would write them. */
#include <cicada/function.h>

/* A small JSON answer, the same bytes as every peer's. */
static int tiny(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    (void)req;
    (void)ctx;
    cicada_write_begin_object(res, NULL);
    cicada_write_string(res, "message", "Hello, World!");
    cicada_write_bool(res, "ok", true);
    cicada_write_end(res);
    return CICADA_OK;
}
CICADA_FUNCTION(tiny);

/* GET /?id=1: one row by its key. */
static int item(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    const char *id = cicada_request_query(req, "id");
    struct cicada_result *rows;

    if (cicada_query(ctx, "SELECT id, name, price_cents, stock FROM bench.items WHERE id = $1",
                     CICADA_PARAMS(cicada_text(id ? id : "1")), &rows) != CICADA_OK)
        return CICADA_FAIL;
    if (cicada_result_rows(rows) == 0)
        return cicada_problem(res, 404, "unknown_item", "there is no such item");
    cicada_write_row(res, NULL, rows, 0);
    return CICADA_OK;
}
CICADA_FUNCTION(item);
