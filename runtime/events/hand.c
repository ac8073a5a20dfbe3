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

    held->event = event;
    held->state = HELD_IN_LINE;
    held->link = hand->end;
    *hand->end = held;
    hand->end = &held->next;
    hand->in_line++;
}

struct held *hand_take(struct hand *hand)
{
    struct held *held = hand->in_line > 0 ? hand->first : NULL;

    while (held != NULL && held->state != HELD_IN_LINE)
        held = held->next;
    if (held == NULL)
        return NULL;
    held->state = HELD_AT_WORK;
    hand->in_line--;
    hand->at_work++;
    return held;
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
    event_free(held->event);
    free(held);
}

int hand_count(const struct hand *hand)
{
    return hand->in_line + hand->at_work + hand->finished;
}

bool hand_is_exclusive(const struct hand *hand)
{
    for (const struct held *held = hand->first; held != NULL; held = held->next)
        if (held->event->alone)
            return true;
    return false;
}
