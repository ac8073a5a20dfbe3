/* shop.h - what the shop's two handlers share: reading a field that must be a positive integer. */
#ifndef SHOP_H
#define SHOP_H

#include <cicada/function.h>

/* CICADA_FAIL: `res` holds the 422 that says what is wrong with the field. */
static inline int shop_read_positive(struct cicada_json body, const char *name, struct cicada_response *res,
                                     int64_t *ret_value)
{
    struct cicada_json field = cicada_json_member(body, name);

    if (cicada_json_type(field) == CICADA_JSON_ABSENT)
        return cicada_problem(res, 422, "missing_field", "%s is required", name);
    if (!cicada_json_int64(field, ret_value) || *ret_value < 1)
        return cicada_problem(res, 422, "invalid_field", "%s must be a positive integer", name);
    return CICADA_OK;
}

#endif
