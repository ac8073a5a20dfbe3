/* admission.h - who may work: at most `limit` at once, at most `places` waiting, first come first served.
 *
 * A place that becomes free goes to the one who has waited longest; who comes later can't overtake.
 *
 * Threads: any. admission_leave() may be called from another thread than admission_enter().
 */
#ifndef CICADA_HOST_ADMISSION_H
#define CICADA_HOST_ADMISSION_H

#include <stdbool.h>
#include <stdint.h>

struct admission;

enum admission_result {
    ADMISSION_ENTERED, /* pair it with admission_leave() */
    ADMISSION_FULL,    /* all places and all waiting places are taken */
    ADMISSION_LATE,    /* the deadline passed while waiting */
};

struct admission *admission_new(int limit, int places);
void admission_free(struct admission *admission); /* nobody may be inside or waiting; NULL is fine */

/* True: entered, without waiting. */
bool admission_try_enter(struct admission *admission);
enum admission_result admission_enter(struct admission *admission, int64_t deadline_ms);
void admission_leave(struct admission *admission);

int admission_working(const struct admission *admission);
int admission_waiting(const struct admission *admission);

#endif
