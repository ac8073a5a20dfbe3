/* watcher.h - hears that files in folders changed: written to their end, moved there, or gone.
 *
 * A burst of changes is one call, a moment after its last one. A folder that goes is looked for until it is there again, which is a
 * change, too.
 *
 * Threads: the loop's.
 */
#ifndef CICADA_LOCAL_WATCHER_H
#define CICADA_LOCAL_WATCHER_H

#include "operator/gateway/loop.h"

#define WATCHER_FOLDERS_MAX 1024

struct watcher;

int watcher_new(struct loop *loop, void (*changed)(void *arg), void *arg, struct watcher **ret_watcher,
                struct err *err) MUST_CHECK;
/* Nothing if it is watched already. ERR_TOO_LARGE: too many. */
int watcher_add(struct watcher *watcher, const char *folder, struct err *err) MUST_CHECK;
void watcher_free(struct watcher *watcher); /* NULL is fine */

#endif
