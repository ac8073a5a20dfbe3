/* rollout.h - which processes of a Function to start and which to end, from what there is. Pure.
 *
 * New ones take over before old ones end: never fewer that serve than there were, never more than twice the number wanted. Threads:
 * none of its own.
 */
#ifndef CICADA_LOCAL_ROLLOUT_H
#define CICADA_LOCAL_ROLLOUT_H

#include <stdbool.h>

struct rollout_state {
    int desired;
    int starting, serving; /* of what the Function is now */
    int old;               /* of what it was before, starting ones included */
    bool may_start;        /* false: it failed a moment ago, or can't be started as it is */
};

struct rollout_step {
    int start;
    int stop_new; /* the youngest first */
    int stop_old;
};

struct rollout_step rollout_decide(const struct rollout_state *state);

#endif
