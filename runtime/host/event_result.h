/* event_result.h - how the run of an event ended, for those who decide what becomes of it.
 *
 * Threads: none of its own.
 */
#ifndef CICADA_HOST_EVENT_RESULT_H
#define CICADA_HOST_EVENT_RESULT_H

#include "runtime/events/outcome.h"
#include "runtime/host/invocation.h"

/* An error of the database was the answer. */
void event_result_read_error(struct event_result *ret_result, const struct pg_error *error);
/* There was no database to go on with: the failure is not the event's, whatever the handler says of it. */
bool event_result_is_unreachable(const struct database *database);
/* Of an invocation that is over. */
void event_result_read(struct event_result *ret_result, const struct invocation *invocation);

#endif
