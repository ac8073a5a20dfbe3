/* chaos.c - the handlers of the chaos test: what an event's run leaves behind in the database, and a run that ends the process. */
#include <cicada/function.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Events of this share send another one, in the same transaction. */
#define SENDS_EVERY 10
#define FAILS_EVERY 13
#define LINGER_S    5 /* in the middle of a transaction */

static int note(struct cicada_context *ctx, struct cicada_json event)
{
    int64_t number = 0, account = 0, amount = 0;

    if (!cicada_json_get_int64(event, "number", &number) ||
        !cicada_json_get_int64(event, "account", &account) ||
        !cicada_json_get_int64(event, "amount", &amount))
        return CICADA_FAIL;
    if (cicada_execute(ctx, "UPDATE chaos.account SET balance = balance + $2 WHERE id = $1",
                       CICADA_PARAMS(cicada_int64(account), cicada_int64(amount))) != CICADA_OK)
        return CICADA_FAIL;
    if (cicada_execute(ctx, "INSERT INTO chaos.done (function, number) VALUES ($1, $2)",
                       CICADA_PARAMS(cicada_text(cicada_function_name(ctx)), cicada_int64(number))) !=
        CICADA_OK)
        return CICADA_FAIL;
    if (number % SENDS_EVERY != 0)
        return CICADA_OK;
    return cicada_execute(ctx, "SELECT chaos.send('sql', 'sent by ' || $1, 1)",
                          CICADA_PARAMS(cicada_text(cicada_function_name(ctx))));
}

/* One event by its own. */
static int effect(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    (void)res;
    return note(ctx, cicada_request_json(req));
}
CICADA_FUNCTION(effect);

/* One after another of a batch. Some fail at first, after their effects. */
static int batch(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    (void)req;
    (void)res;
    while (cicada_event_next(ctx)) {
        struct cicada_json event = cicada_event_json(ctx);
        int64_t number = 0;

        (void)note(ctx, event); /* a query that fails fails its event */
        if (cicada_event_attempt(ctx) == 1 && cicada_json_get_int64(event, "number", &number) &&
            number % FAILS_EVERY == 0)
            (void)cicada_event_fail(ctx, 503, "as planned");
    }
    return CICADA_OK;
}
CICADA_FUNCTION(batch);

/* The same, but an event that says so ends the process, after its effects and before their commit. */
static int poison(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    const char *key = cicada_json_get_string(cicada_request_json(req), "key");

    if (effect(req, ctx, res) != CICADA_OK)
        return CICADA_FAIL;
    if (key != NULL && strcmp(key, "poison") == 0)
        abort();
    return CICADA_OK;
}
CICADA_FUNCTION(poison);

/* Lingers over a locked row where CHAOS_LINGERS is set. */
static int linger(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    int64_t account = 0;

    (void)cicada_json_get_int64(cicada_request_json(req), "account", &account);
    if (cicada_execute(ctx, "UPDATE chaos.account SET balance = balance + 1 WHERE id = $1",
                       CICADA_PARAMS(cicada_int64(account))) != CICADA_OK)
        return CICADA_FAIL;
    if (getenv("CHAOS_LINGERS") != NULL)
        (void)sleep(LINGER_S);
    return effect(req, ctx, res);
}
CICADA_FUNCTION(linger);
