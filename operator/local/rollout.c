#include "operator/local/rollout.h"

static int at_least_zero(int number)
{
    return number > 0 ? number : 0;
}

struct rollout_step rollout_decide(const struct rollout_state *state)
{
    int present = state->starting + state->serving;
    int still_needed = at_least_zero(state->desired - state->serving);
    return (struct rollout_step){
        .start = state->may_start ? at_least_zero(state->desired - present) : 0,
        .stop_new = at_least_zero(present - state->desired),
        .stop_old = at_least_zero(state->old - still_needed),
    };
}
