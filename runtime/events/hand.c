#include "runtime/events/hand.h"

#include <stdlib.h>

#include "runtime/base/mem.h"

void hand_init(struct hand *hand)
{
    *hand = (struct hand){0};
    hand->end = &hand->first;
}

void hand_add(struct hand *hand, struct event *event)
{
    struct held *held = xcalloc(1, sizeof(*held));

    held->job.event = event;
    held->state = HELD_IN_LINE;
    held->link = hand->end;
    *hand->end = held;
    hand->end = &held->next;
    hand->in_line++;
    hand->bytes += event->payload_len;
}

static struct held *take(struct hand *hand, struct held *held)
{
    held->state = HELD_AT_WORK;
    hand->in_line--;
    hand->at_work++;
    return held;
}

struct held *hand_take(struct hand *hand)
{
    struct held *held = hand->in_line > 0 ? hand->first : NULL;

    while (held != NULL && held->state != HELD_IN_LINE)
        held = held->next;
    return held != NULL ? take(hand, held) : NULL;
}

struct held *hand_take_next(struct hand *hand, const struct held *taken)
{
    struct held *held = hand->in_line > 0 ? taken->next : NULL;

    while (held != NULL &&
           (held->state != HELD_IN_LINE || held->job.event->trigger != taken->job.event->trigger))
        held = held->next;
    return held != NULL ? take(hand, held) : NULL;
}

void hand_finish(struct hand *hand, struct held *held)
{
    held->state = HELD_FINISHED;
    hand->at_work--;
    hand->finished++;
}

void hand_remove(struct hand *hand, struct held *held)
{
    int *const counts[] = {&hand->in_line, &hand->at_work, &hand->finished};

    (*counts[held->state])--;
    *held->link = held->next;
    if (held->next != NULL)
        held->next->link = held->link;
    else
        hand->end = held->link;
    hand->bytes -= held->job.event->payload_len;
    event_free(held->job.event);
    free(held);
}

int hand_count(const struct hand *hand)
{
    return hand->in_line + hand->at_work + hand->finished;
}

bool hand_is_exclusive(const struct hand *hand)
{
    for (const struct held *held = hand->first; held != NULL; held = held->next)
        if (held->job.event->alone)
            return true;
    return false;
}
