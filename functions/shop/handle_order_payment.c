/* handle_order_payment.c - POST /payments {"order_id":1,"payment_status":"paid"}: settles a pending order.
 *
 * "paid" marks it paid; "failed" marks it failed and puts its stock back. 200 with the order; 400 no JSON object; 422 a
 * field that is missing or wrong; 404 unknown order; 409 settled before (so a repeated message changes nothing).
 */
#include <string.h>

#include "shop.h"

/* The UPDATE found no pending order: there is none, or it was settled before. */
static int refuse_order(struct cicada_context *ctx, int64_t order_id, struct cicada_response *res)
{
    struct cicada_result *order;

    if (cicada_query(ctx, "SELECT status FROM public.orders WHERE id = $1",
                     CICADA_PARAMS(cicada_int64(order_id)), &order) != CICADA_OK)
        return CICADA_FAIL;
    if (cicada_result_rows(order) == 0)
        return cicada_problem(res, 404, "unknown_order", "there is no order %lld", (long long)order_id);
    return cicada_problem(res, 409, "already_settled", "order %lld is %s", (long long)order_id,
                          cicada_result_get(order, 0, "status"));
}

static int restore_stock(struct cicada_context *ctx, const struct cicada_result *order)
{
    return cicada_execute(ctx, "UPDATE public.products SET stock = stock + $2::bigint WHERE id = $1",
                          CICADA_PARAMS(cicada_text(cicada_result_get(order, 0, "product_id")),
                                        cicada_text(cicada_result_get(order, 0, "quantity"))));
}

static int handle_order_payment(struct cicada_request *req, struct cicada_context *ctx,
                                struct cicada_response *res)
{
    struct cicada_json body = cicada_request_json(req);
    const char *payment = cicada_json_get_string(body, "payment_status");
    struct cicada_result *order;
    int64_t order_id = 0;

    if (cicada_json_type(body) != CICADA_JSON_OBJECT)
        return cicada_problem(res, 400, "not_an_object", "the body must be a JSON object");
    if (shop_read_positive(body, "order_id", res, &order_id) != CICADA_OK)
        return CICADA_FAIL;
    if (payment == NULL || (strcmp(payment, "paid") != 0 && strcmp(payment, "failed") != 0))
        return cicada_problem(res, 422, "invalid_field", "payment_status must be \"paid\" or \"failed\"");

    /* The condition on status decides between two settlements that arrive together: the second finds no row. */
    if (cicada_query(ctx,
                     "UPDATE public.orders SET status = $2, settled_at = now()"
                     " WHERE id = $1 AND status = 'pending'"
                     " RETURNING id, user_id, product_id, quantity, total, status",
                     CICADA_PARAMS(cicada_int64(order_id), cicada_text(payment)), &order) != CICADA_OK)
        return CICADA_FAIL;
    if (cicada_result_rows(order) == 0)
        return refuse_order(ctx, order_id, res);
    if (strcmp(payment, "failed") == 0 && restore_stock(ctx, order) != CICADA_OK)
        return CICADA_FAIL;

    cicada_write_row(res, NULL, order, 0);
    return CICADA_OK;
}

CICADA_FUNCTION(handle_order_payment);
