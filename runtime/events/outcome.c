#include "runtime/events/outcome.h"

#include "runtime/base/text.h"

/* Without an attempt that is spent, doubled from run to run. */
#define UNSPENT_DELAY_MS      1000
#define UNSPENT_DELAY_MAX_MS  60000
#define CONFLICT_DELAY_MS     100 /* those that it met will soon be done */
#define CONFLICT_DELAY_MAX_MS 5000

/* Between half and the whole, so that events that failed together do not come back together. */
static int64_t jittered(int64_t delay_ms, uint64_t random)
{
    return delay_ms / 2 + (int64_t)(random % (uint64_t)(delay_ms / 2 + 1));
}

static int64_t backoff_ms(int64_t first_ms, int64_t longest_ms, int times_before, uint64_t random)
{
    int64_t delay_ms = first_ms;

    for (int i = 0; i < times_before && delay_ms < longest_ms; i++)
        delay_ms *= 2;
    return jittered(delay_ms < longest_ms ? delay_ms : longest_ms, random);
}

static bool has_class(const struct event_result *result, const char *class)
{
    return result->by_database && str_starts_with(result->sqlstate, class);
}

bool outcome_is_passing(const struct event_result *result)
{
    return (result->by_database && result->unreachable) || has_class(result, "08") ||
           has_class(result, "40") || has_class(result, "53") || has_class(result, "57P");
}

static bool asks_for_retry(int status)
{
    return status == 408 || status == 409 || status == 425 || status == 429 || status >= 500;
}

static struct event_decision bury(const char *reason)
{
    return (struct event_decision){.verdict = EVENT_BURY, .reason = reason};
}

struct event_decision outcome_decide(const struct event_result *result, const struct delivery *delivery,
                                     int attempt, int unspent, uint64_t random)
{
    struct event_decision again = {.verdict = EVENT_RETRY, .spend = true};

    if (result->settled)
        return (struct event_decision){.verdict = EVENT_DONE};
    if (result->lost)
        return (struct event_decision){.verdict = EVENT_FORGET};
    if (result->untouched)
        return (struct event_decision){.verdict = EVENT_GIVE_BACK};
    if (outcome_is_passing(result)) {
        again.spend = false;
        again.delay_ms = has_class(result, "40")
                             ? backoff_ms(CONFLICT_DELAY_MS, CONFLICT_DELAY_MAX_MS, unspent, random)
                             : backoff_ms(UNSPENT_DELAY_MS, UNSPENT_DELAY_MAX_MS, unspent, random);
        return again;
    }
    if (has_class(result, "22") || has_class(result, "23"))
        return bury("data");
    if (!result->by_database && !asks_for_retry(result->status))
        return bury("rejected");
    if (attempt >= delivery->max_attempts)
        return bury("attempts");
    again.delay_ms = backoff_ms(delivery->backoff_ms, delivery->max_backoff_ms, attempt - 1, random);
    if (result->retry_after_ms > again.delay_ms)
        again.delay_ms = result->retry_after_ms < OUTCOME_RETRY_AFTER_MAX_MS ? result->retry_after_ms
                                                                             : OUTCOME_RETRY_AFTER_MAX_MS;
    return again;
}

bool outcome_is_spent(const struct delivery *delivery, int attempt)
{
    return attempt > delivery->max_attempts;
}
