/* handle_user_request.c - POST /orders {"user_id":1,"product_id":2,"quantity":3}: takes the stock and creates the order.
 *
 * 201 with the order; 400 no JSON object; 422 a field that is missing or no positive integer; 404 unknown product or
 * user; 409 out of stock. Stock and order change in one transaction: every other answer leaves nothing behind.
 */
#include <string.h>

#include "shop.h"

/* The UPDATE found no row: there is no such product, or not enough of it. */
static int refuse_product(struct cicada_context *ctx, int64_t product_id, struct cicada_response *res)
{
    struct cicada_result *product;

    if (cicada_query(ctx, "SELECT stock FROM public.products WHERE id = $1",
                     CICADA_PARAMS(cicada_int64(product_id)), &product) != CICADA_OK)
        return CICADA_FAIL;
    if (cicada_result_rows(product) == 0)
        return cicada_problem(res, 404, "unknown_product", "there is no product %lld", (long long)product_id);
    return cicada_problem(res, 409, "out_of_stock", "product %lld has %s left", (long long)product_id,
                          cicada_result_get(product, 0, "stock"));
}

static int handle_user_request(struct cicada_request *req, struct cicada_context *ctx,
                               struct cicada_response *res)
{
    struct cicada_json body = cicada_request_json(req);
    struct cicada_result *product, *order;
    int64_t user_id = 0, product_id = 0, quantity = 0;

    if (cicada_json_type(body) != CICADA_JSON_OBJECT)
        return cicada_problem(res, 400, "not_an_object", "the body must be a JSON object");
    if (shop_read_positive(body, "user_id", res, &user_id) != CICADA_OK ||
        shop_read_positive(body, "product_id", res, &product_id) != CICADA_OK ||
        shop_read_positive(body, "quantity", res, &quantity) != CICADA_OK)
        return CICADA_FAIL;

    /* Check and change in one statement: two orders for the last piece queue up at the row's lock. */
    if (cicada_query(ctx,
                     "UPDATE public.products SET stock = stock - $2::bigint"
                     " WHERE id = $1 AND stock >= $2::bigint RETURNING price_cents",
                     CICADA_PARAMS(cicada_int64(product_id), cicada_int64(quantity)), &product) != CICADA_OK)
        return CICADA_FAIL;
    if (cicada_result_rows(product) == 0)
        return refuse_product(ctx, product_id, res);

    if (cicada_query(ctx,
                     "INSERT INTO public.orders (user_id, product_id, quantity, total)"
                     " VALUES ($1, $2, $3::bigint, $3::bigint * $4::bigint / 100.0)"
                     " RETURNING id, user_id, product_id, quantity, total, status",
                     CICADA_PARAMS(cicada_int64(user_id), cicada_int64(product_id), cicada_int64(quantity),
                                   cicada_text(cicada_result_get(product, 0, "price_cents"))),
                     &order) != CICADA_OK) {
        if (strcmp(cicada_error_constraint(ctx), "orders_user_id_fkey") == 0)
            return cicada_problem(res, 404, "unknown_user", "there is no user %lld", (long long)user_id);
        return CICADA_FAIL;
    }
    cicada_response_status(res, 201);
    cicada_write_row(res, NULL, order, 0);
    return CICADA_OK;
}

CICADA_FUNCTION(handle_user_request);
