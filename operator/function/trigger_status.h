/* trigger_status.h - what of a backlog's figures a Function's status shows. Pure. Threads: none of its own. */
#ifndef CICADA_FUNCTION_TRIGGER_STATUS_H
#define CICADA_FUNCTION_TRIGGER_STATUS_H

#include "operator/backlog/backlog.h"
#include "operator/function/function_spec.h"
#include "operator/function/function_status.h"

/* Fills status->triggers of a status that has none. Figures that are not known, as all are with backlog NULL, are as they were in `before`:
 * a database that is away for a moment is not told to everybody. Ages are rounded, so that an event that nobody takes does not make
 * the operator write for ever. */
void trigger_status_fill(const struct function_spec *spec, const struct backlog_function *backlog,
                         const struct function_status *before, struct function_status *status);

/* Whether the database server has connections enough. As it was before while that is not known, absent without triggers. */
void trigger_status_budget(const struct function_spec *spec, const struct backlog_function *backlog,
                           const struct function_status *before, struct condition *condition);

#endif
