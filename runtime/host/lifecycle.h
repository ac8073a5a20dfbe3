/* lifecycle.h - what the process is doing, for /readyz: starting, serving, or leaving, and why.
 *
 * Threads: any.
 */
#ifndef CICADA_HOST_LIFECYCLE_H
#define CICADA_HOST_LIFECYCLE_H

#include <pthread.h>
#include <stdbool.h>

enum lifecycle_phase { LIFECYCLE_STARTING, LIFECYCLE_SERVING, LIFECYCLE_DRAINING };

#define LIFECYCLE_REASON_SIZE  64
#define LIFECYCLE_MESSAGE_SIZE 768

struct lifecycle_view {
    enum lifecycle_phase phase;
    char reason[LIFECYCLE_REASON_SIZE]; /* while not serving: "Starting", "Draining", "DatabaseUnreachable" */
    char message[LIFECYCLE_MESSAGE_SIZE];
};

struct lifecycle {
    pthread_mutex_t mutex;
    struct lifecycle_view view; /* guarded by mutex */
};

void lifecycle_init(struct lifecycle *lifecycle); /* starting */
void lifecycle_release(struct lifecycle *lifecycle);
void lifecycle_enter(struct lifecycle *lifecycle, enum lifecycle_phase phase, const char *reason,
                     const char *message);
/* What the start waits for, as long as it does: STARTING for that reason, and a line of the log whose member "reason" is for
 * programs. what: "the statements can't be prepared yet". */
void lifecycle_delay(struct lifecycle *lifecycle, const char *reason, const char *what, const char *message);
void lifecycle_look(struct lifecycle *lifecycle, struct lifecycle_view *ret_view);

#endif
