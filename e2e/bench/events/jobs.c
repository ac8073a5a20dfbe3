/* jobs.c - the jobs of throughput and pick-up, written as any user would write them. */
#include <cicada/function.h>
#include <time.h>

static int effect(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    int64_t number = 0;

    (void)res;
    (void)cicada_json_get_int64(cicada_request_json(req), "number", &number);
    return cicada_execute(ctx, "INSERT INTO bench.effect (number) VALUES ($1)",
                          CICADA_PARAMS(cicada_int64(number)));
}
CICADA_FUNCTION(effect);

/* The same for a batch, with one statement. */
static int effect_batch(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    (void)res;
    return cicada_execute(ctx,
                          "INSERT INTO bench.effect (number) SELECT (event -> 'data' ->> 'number')::bigint"
                          " FROM jsonb_array_elements($1::jsonb) event",
                          CICADA_PARAMS(cicada_text(cicada_request_body(req, NULL))));
}
CICADA_FUNCTION(effect_batch);

/* When it was entered. */
static int entry(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    struct timespec now;
    int64_t number = 0;

    (void)res;
    (void)timespec_get(&now, TIME_UTC);
    (void)cicada_json_get_int64(cicada_request_json(req), "number", &number);
    return cicada_execute(
        ctx, "INSERT INTO bench.entry (number, at) VALUES ($1, $2)",
        CICADA_PARAMS(cicada_int64(number), cicada_double((double)now.tv_sec + (double)now.tv_nsec / 1e9)));
}
CICADA_FUNCTION(entry);
