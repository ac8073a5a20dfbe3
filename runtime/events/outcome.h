/* outcome.h - what becomes of an event after its run: decided from how that ended, without acting.
 *
 * Status below 400: done. 408, 409, 425, 429 and 5xx: run again, after a backoff that doubles with each attempt and is jittered, or after
 * what Retry-After says. Other 4xx: a dead letter at once. Where an error of the database was the answer, its SQLSTATE decides: classes 22
 * and 23 are dead letters, 08, 40, 53 and 57P are run again without spending an attempt, later from time to time.
 */
#ifndef CICADA_EVENTS_OUTCOME_H
#define CICADA_EVENTS_OUTCOME_H

#include <stdbool.h>
#include <stdint.h>

#define OUTCOME_RETRY_AFTER_MAX_MS ((int64_t)24 * 3600 * 1000)

/* How the run ended. */
struct event_result {
    bool settled; /* committed, with the settlement */
    bool
        lost; /* the lease was, or nobody knows whether it was committed: the event is not ours to decide upon */
    bool untouched;   /* it was not begun */
    bool by_database; /* an error of the database is the answer */
    bool unreachable; /* and it was that no connection could be had, in time or at all, or that it broke */
    char sqlstate[6]; /* "": none */
    int status;       /* of the answer */
    int64_t retry_after_ms; /* that the answer asks for; -1: it does not */
    char error[512];        /* for people */
};

struct event;

/* An event that is worked on, and how that ended. */
struct event_job {
    struct event *event;
    struct event_result result;
};

struct delivery {
    int max_attempts;
    int64_t backoff_ms, max_backoff_ms;
};

enum event_verdict {
    EVENT_DONE,
    EVENT_FORGET,    /* somebody else has it, or will */
    EVENT_GIVE_BACK, /* the attempt does not count */
    EVENT_RETRY,
    EVENT_BURY,
};

struct event_decision {
    enum event_verdict verdict;
    int64_t delay_ms;   /* of RETRY */
    bool spend;         /* the attempt counts */
    const char *reason; /* of BURY: "rejected", "data", "attempts" */
};

/* attempt: of this run, from 1. unspent: how many runs before this one have spent none. random: any number. */
struct event_decision outcome_decide(const struct event_result *result, const struct delivery *delivery,
                                     int attempt, int unspent, uint64_t random);
/* The database's failure, and not the event's: it may well succeed later. */
bool outcome_is_passing(const struct event_result *result);
/* An event that was claimed: true if it has had all its attempts, each of which ended without a word. */
bool outcome_is_spent(const struct delivery *delivery, int attempt);

#endif
