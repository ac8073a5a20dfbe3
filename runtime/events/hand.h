/* hand.h - the events that a consumer has in hand: in line, at work, or finished and not yet decided upon.
 *
 * Locks and threads are its owner's: every call is made under the owner's mutex, but those on an event that was taken.
 */
#ifndef CICADA_EVENTS_HAND_H
#define CICADA_EVENTS_HAND_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/events/event.h"
#include "runtime/events/outcome.h"

enum held_state { HELD_IN_LINE, HELD_AT_WORK, HELD_FINISHED };

struct held {
    struct event_job job;
    enum held_state state;
    bool
        orphan; /* claimed by a control connection that is no more: whatever comes of it is not told to the database */
    struct held *next, **link;
};

struct hand {
    struct held *first, **end; /* in order of the claims */
    int in_line, at_work, finished;
    size_t bytes; /* of payloads */
};

void hand_init(struct hand *hand);
/* At the end of the line; takes ownership. */
void hand_add(struct hand *hand, struct event *event);
/* The first in line, which is at work from now on; NULL: none is in line. */
struct held *hand_take(struct hand *hand);
/* The next in line behind one that was taken, of the same trigger. */
struct held *hand_take_next(struct hand *hand, const struct held *taken);
void hand_finish(struct hand *hand, struct held *held);
/* Out of the hand; frees it with its event. */
void hand_remove(struct hand *hand, struct held *held);

int hand_count(const struct hand *hand);
/* True if one must have nothing beside it. */
bool hand_is_exclusive(const struct hand *hand);

#endif
