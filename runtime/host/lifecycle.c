#include "runtime/host/lifecycle.h"

#include <stdio.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"

void lifecycle_init(struct lifecycle *lifecycle)
{
    pthread_mutex_init(&lifecycle->mutex, NULL);
    lifecycle_enter(lifecycle, LIFECYCLE_STARTING, "Starting", "the handler is being loaded");
}

void lifecycle_release(struct lifecycle *lifecycle)
{
    pthread_mutex_destroy(&lifecycle->mutex);
}

void lifecycle_enter(struct lifecycle *lifecycle, enum lifecycle_phase phase, const char *reason,
                     const char *message)
{
    pthread_mutex_lock(&lifecycle->mutex);
    lifecycle->view.phase = phase;
    snprintf(lifecycle->view.reason, sizeof(lifecycle->view.reason), "%s", reason);
    snprintf(lifecycle->view.message, sizeof(lifecycle->view.message), "%s", message);
    pthread_mutex_unlock(&lifecycle->mutex);
}

void lifecycle_delay(struct lifecycle *lifecycle, const char *reason, const char *what, const char *message)
{
    CLEANUP_FREE char *line = xasprintf("%s: %s", what, message);
    struct log_members members;

    log_members_init(&members);
    log_members_string(&members, "reason", reason, LIFECYCLE_REASON_SIZE);
    log_write_members(LOG_WARN, &members, line);
    lifecycle_enter(lifecycle, LIFECYCLE_STARTING, reason, message);
}

void lifecycle_look(struct lifecycle *lifecycle, struct lifecycle_view *ret_view)
{
    pthread_mutex_lock(&lifecycle->mutex);
    *ret_view = lifecycle->view;
    pthread_mutex_unlock(&lifecycle->mutex);
}
