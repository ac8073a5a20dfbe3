/* hello.c - POST /{name}: greets, and counts how often. The table is in schema.sql. */
#include <cicada/function.h>
#include <string.h>

static int hello(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    const char *name = cicada_request_parameter(req, "name"); /* http.pathTemplate: /{name} */
    struct cicada_result *visit;

    if (name == NULL || name[0] == '\0')
        return cicada_problem(res, 422, "missing_name", "say who you are: POST /{name}");
    if (cicada_query(ctx,
                     "INSERT INTO public.visits (name, count) VALUES ($1, 1)"
                     " ON CONFLICT (name) DO UPDATE SET count = visits.count + 1 RETURNING count",
                     CICADA_PARAMS(cicada_text(name)), &visit) != CICADA_OK)
        return CICADA_FAIL; /* answered by its SQLSTATE; nothing of it stays */
    cicada_write_begin_object(res, NULL);
    cicada_write_string(res, "greeting", "hello");
    cicada_write_string(res, "name", name);
    cicada_write_raw(res, "visits", cicada_result_get(visit, 0, "count"),
                     strlen(cicada_result_get(visit, 0, "count")));
    cicada_write_end(res);
    return CICADA_OK; /* committed, then answered */
}
CICADA_FUNCTION(hello);
