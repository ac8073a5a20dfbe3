/* function_triggers.h - spec.triggers of a Function, parsed and defaulted. Pure: whether a table or a zone is there is found elsewhere.
 *
 * Threads: none of its own.
 */
#ifndef CICADA_FUNCTION_FUNCTION_TRIGGERS_H
#define CICADA_FUNCTION_FUNCTION_TRIGGERS_H

#include "operator/function/function_spec.h"

/* Of delivery, as in the CRD; what has its default is left out of CICADA_SPEC. */
#define TRIGGER_BATCH_SIZE_DEFAULT          1
#define TRIGGER_MAX_ATTEMPTS_DEFAULT        20
#define TRIGGER_BACKOFF_SECONDS_DEFAULT     2
#define TRIGGER_MAX_BACKOFF_SECONDS_DEFAULT 3600

/* tree: the spec. err (ERR_INVALID) says "spec.triggers[0].schedule.cron: column 3: ...". *ret_triggers and *ret_count are set as far as
 * it got, also on error. */
int function_triggers_parse(const cJSON *tree, struct function_trigger **ret_triggers, size_t *ret_count,
                            struct err *err) MUST_CHECK;
void function_triggers_free(struct function_trigger *triggers, size_t count);

/* As those of function_text.h; those of cron in parsing say more. */
const char *function_triggers_check_cron(const char *text);
const char *function_triggers_check_time_zone(const char *text);

#endif
