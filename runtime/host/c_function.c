#include "runtime/host/c_function.h"

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/host/handler.h"

static int run_init(const struct cicada_function *function, const struct c_function_settings *settings,
                    void **ret_state, struct err *err)
{
    struct arena arena;
    struct database none;
    struct cicada_context context = {
        .calls = &sdk_calls,
        .function = settings->name,
        .namespace = settings->namespace,
        .request_id = "",
        .traceparent = "",
        .deadline_ms = clock_monotonic_ms() + settings->init_timeout_ms,
        .database = &none,
    };
    int rc = CICADA_OK;

    arena_init(&arena);
    database_init(&none, /* pool= */ NULL, &arena, context.deadline_ms);
    if (function->init != NULL)
        rc = function->init(&context, ret_state);
    database_release(&none);
    arena_release(&arena);
    if (rc != CICADA_OK)
        return err_set(err, ERR_INVALID, "%s:%s: init failed: %s", settings->file, settings->symbol,
                       context.last_error[0] ? context.last_error : "it logged no reason");
    return 0;
}

int c_function_start(struct c_function *self, const struct c_function_settings *settings, struct err *err)
{
    const struct cicada_function *function;

    if (handler_load(settings->directory, settings->file, settings->symbol, &function, err) != 0 ||
        run_init(function, settings, &self->state, err) != 0)
        return -1;
    self->function = function;
    return 0;
}

void c_function_stop(struct c_function *self)
{
    const struct cicada_function *function = steal_ptr(&self->function);

    if (function != NULL && function->shutdown != NULL)
        function->shutdown(self->state);
}

static int invoke(void *arg, struct invocation *invocation)
{
    struct c_function *self = arg;

    invocation->context.state = self->state;
    return self->function->handle(&invocation->request, &invocation->context, &invocation->response);
}

static bool reads_only(void *arg, const struct invocation *invocation)
{
    const struct c_function *self = arg;

    (void)invocation;
    return (handler_flags(self->function) & CICADA_READ_ONLY) != 0;
}

const struct invoker_ops c_function_ops = {.invoke = invoke, .reads_only = reads_only};
