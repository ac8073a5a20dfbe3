/* schema_start.h - what a function needs in its database before it serves, made there if its role may: schema `cicada`, and the queue of
 * its output.
 *
 * Threads: one.
 */
#ifndef CICADA_HOST_SCHEMA_START_H
#define CICADA_HOST_SCHEMA_START_H

#include <stdbool.h>

#include "runtime/host/lifecycle.h"
#include "runtime/host/spec.h"
#include "runtime/postgres/postgres.h"

enum schema_start_outcome {
    SCHEMA_START_READY,
    SCHEMA_START_AWAY,    /* the database could not be asked, as *error says: try again */
    SCHEMA_START_MISSING, /* the message says what a person is to do */
};

bool schema_start_is_needed(const struct function_spec *spec);
/* One attempt. */
enum schema_start_outcome schema_start_try(const struct function_spec *spec, struct pg_pool *pool,
                                           char ret_message[LIFECYCLE_MESSAGE_SIZE], struct pg_error *error);

#endif
