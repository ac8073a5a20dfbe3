/* watcher.h - hears that files in folders changed: written to their end, moved there, or gone.
 *
 * A burst of changes is one call, a moment after its last one. A folder that goes is looked for until it is there again, which is a
 * change, too. Where symbolic links lead is found out by watcher_add(): what is watched is to be added anew after each change, between
 * watcher_begin() and watcher_end().
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
/* Of a folder what is in it; of a file, or what is not there yet, the folder it is in. Also the folders of all links on the way.
 * Nothing if that is watched already. ERR_TOO_LARGE: too many. */
int watcher_add(struct watcher *watcher, const char *path, struct err *err) MUST_CHECK;
void watcher_begin(struct watcher *watcher);
void watcher_end(struct watcher *watcher);  /* what was not added since is watched no more */
void watcher_free(struct watcher *watcher); /* NULL is fine */

#endif
