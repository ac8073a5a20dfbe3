#include "runtime/host/drain.h"

enum drain_decision drain_decide(const struct drain_view *view)
{
    int64_t quiet_ms = view->idle_ms < view->elapsed_ms ? view->idle_ms : view->elapsed_ms;

    if (!view->busy && quiet_ms >= (view->acknowledged ? DRAIN_SETTLE_MS : DRAIN_QUIET_MS))
        return DRAIN_DONE;
    return view->elapsed_ms >= view->limit_ms ? DRAIN_TIMED_OUT : DRAIN_WAIT;
}
