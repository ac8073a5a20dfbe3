/* handle_order_payment.c - {"order_id":1,"payment_status":"paid"}, by POST /payments or as an event of the queue "payments": settles a
 * pending order.
 *
 * "paid" marks it paid; "failed" marks it failed and puts its stock back. 200 with the order; 400 no JSON object; 422 a
 * field that is missing or wrong; 404 unknown order; 409 settled before (so a repeated message changes nothing).
 *
 * Of an event nobody reads the answer, and its status says what becomes of it: a 4xx makes it a dead letter, for somebody to look at. A
 * payment that was announced twice is none: what it says is so already, and it is done.
 */
#include <string.h>

#include "shop.h"

/* The UPDATE found no pending order: there is none, or it was settled before. */
static int refuse_order(struct cicada_context *ctx, int64_t order_id, const char *payment,
                        struct cicada_response *res)
{
    struct cicada_result *order;

    if (cicada_query(ctx, "SELECT status FROM public.orders WHERE id = $1",
                     CICADA_PARAMS(cicada_int64(order_id)), &order) != CICADA_OK)
        return CICADA_FAIL;
    if (cicada_result_rows(order) == 0)
        return cicada_problem(res, 404, "unknown_order", "there is no order %lld", (long long)order_id);

    const char *status = cicada_result_get(order, 0, "status");
    bool is_event = cicada_event_id(ctx) != NULL;
    if (is_event && strcmp(status, payment) == 0)
        return CICADA_OK;
    /* 409 would have an event run again later, which changes nothing here. */
    return cicada_problem(res, is_event ? 422 : 409, "already_settled", "order %lld is %s",
                          (long long)order_id, status);
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
        return refuse_order(ctx, order_id, payment, res);
    if (strcmp(payment, "failed") == 0 && restore_stock(ctx, order) != CICADA_OK)
        return CICADA_FAIL;

    cicada_write_row(res, NULL, order, 0);
    return CICADA_OK;
}

CICADA_FUNCTION(handle_order_payment);
