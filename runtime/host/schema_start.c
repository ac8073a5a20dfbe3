#include "runtime/host/schema_start.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/version.h"
#include "runtime/host/output.h"
#include "runtime/schema/schema.h"

#define TIMEOUT_MS 8000 /* of one attempt: longer than cicada.sql waits for others */

bool schema_start_is_needed(const struct function_spec *spec)
{
    return spec->idempotency != IDEMPOTENCY_NONE || spec->trigger_count > 0 || spec->output_queue != NULL;
}

static enum schema_start_outcome declare_output(const char *queue, struct pg_pool *pool,
                                                char ret_message[LIFECYCLE_MESSAGE_SIZE],
                                                struct pg_error *error)
{
    if (output_declare(pool, queue, clock_monotonic_ms() + TIMEOUT_MS, error) == 0)
        return SCHEMA_START_READY;
    if (strcmp(error->sqlstate, "42501") != 0)
        return SCHEMA_START_AWAY;
    snprintf(ret_message, LIFECYCLE_MESSAGE_SIZE,
             "output: the role may not make queue \"%s\": let it in by SELECT cicada.grant_to(...), as the "
             "owner of schema cicada",
             queue);
    return SCHEMA_START_MISSING;
}

enum schema_start_outcome schema_start_try(const struct function_spec *spec, struct pg_pool *pool,
                                           char ret_message[LIFECYCLE_MESSAGE_SIZE], struct pg_error *error)
{
    struct schema_view view;

    if (schema_ensure(pool, CICADA_VERSION, clock_monotonic_ms() + TIMEOUT_MS, &view, error) != 0)
        return SCHEMA_START_AWAY;
    if (view.state != SCHEMA_READY) {
        schema_explain(&view, CICADA_VERSION, ret_message, LIFECYCLE_MESSAGE_SIZE);
        return SCHEMA_START_MISSING;
    }
    return spec->output_queue == NULL ? SCHEMA_START_READY
                                      : declare_output(spec->output_queue, pool, ret_message, error);
}
