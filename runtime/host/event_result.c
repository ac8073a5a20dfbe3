#include "runtime/host/event_result.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/text.h"

#define ANSWER_MAX_BYTES 400 /* that are kept with an event that failed */

static int64_t retry_after_ms(const struct cicada_response *response)
{
    int64_t seconds;

    for (size_t i = 0; i < response->header_count; i++)
        if (http_name_is(response->headers[i].name, "Retry-After") &&
            parse_int64(response->headers[i].value, 0, OUTCOME_RETRY_AFTER_MAX_MS / 1000, &seconds))
            return seconds * 1000;
    return -1;
}

/* A session that the server ends because of what was done in it (25P: its timeouts) is the event's own. */
static bool is_unreachable(const struct pg_error *error)
{
    return error->failure == PG_FAILURE_UNREACHABLE || error->failure == PG_FAILURE_AUTHENTICATION ||
           (error->failure == PG_FAILURE_LOST && !str_starts_with(error->sqlstate, "25P")) || error->busy;
}

bool event_result_is_unreachable(const struct database *database)
{
    return database->failed && is_unreachable(&database->error);
}

void event_result_read_error(struct event_result *ret_result, const struct pg_error *error)
{
    bool unknown = error->failure == PG_FAILURE_COMMIT_UNKNOWN;

    ret_result->by_database = true;
    ret_result->lost = unknown || strcmp(error->sqlstate, EVENT_LOST_SQLSTATE) == 0;
    ret_result->unreachable = is_unreachable(error);
    snprintf(ret_result->sqlstate, sizeof(ret_result->sqlstate), "%s", error->sqlstate);
    snprintf(ret_result->error, sizeof(ret_result->error), "%s%s%s: %s", pg_error_code(error),
             error->sqlstate[0] ? " " : "", error->sqlstate, error->message);
}

/* As much of it as fits, if it is text. */
static void read_answer(const struct cicada_response *response, struct event_result *ret_result)
{
    size_t len;
    const char *body = response_bytes(response, &len);

    ret_result->status = response->status;
    ret_result->retry_after_ms = retry_after_ms(response);
    if (len > ANSWER_MAX_BYTES)
        len = utf8_cut_len(body, ANSWER_MAX_BYTES);
    if (!is_valid_utf8(body, len) || memchr(body, '\0', len) != NULL)
        len = 0;
    snprintf(ret_result->error, sizeof(ret_result->error), "%d: %.*s", response->status, (int)len,
             len > 0 ? body : "");
}

void event_result_read(struct event_result *ret_result, const struct invocation *invocation)
{
    enum invocation_state state = atomic_load(&invocation->state);
    bool has_answer = state != INVOCATION_UNCONFIRMED && state != INVOCATION_GIVEN_UP;

    *ret_result = (struct event_result){.settled = invocation->settled, .retry_after_ms = -1};
    if (invocation->settled)
        return;
    if (invocation->by_database || invocation->database.commit_failed ||
        (has_answer && event_result_is_unreachable(&invocation->database))) {
        event_result_read_error(ret_result, &invocation->database.error);
    } else if (state == INVOCATION_UNCONFIRMED) {
        ret_result->lost = true;
        snprintf(ret_result->error, sizeof(ret_result->error),
                 "commit_unknown: the end of the transaction was not confirmed in time");
    } else if (state == INVOCATION_GIVEN_UP) {
        ret_result->status = 504;
        snprintf(ret_result->error, sizeof(ret_result->error), "the function did not return in time");
    } else {
        read_answer(&invocation->response, ret_result);
    }
}
