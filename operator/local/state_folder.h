/* state_folder.h - the one folder that cicada-local writes to, and the lock on it: one program at a time.
 *
 *   lock  handlers/  run/  postgres/
 *
 * handlers/ and run/ are emptied at the start (a program that was killed left something there) and at the end.
 *
 * Threads: one.
 */
#ifndef CICADA_LOCAL_STATE_FOLDER_H
#define CICADA_LOCAL_STATE_FOLDER_H

#include "runtime/base/err.h"

struct state_folder;

/* Makes it, with the folders above it. ERR_CONFLICT: another program uses it. */
int state_folder_open(const char *path, struct state_folder **ret_folder, struct err *err) MUST_CHECK;
void state_folder_close(struct state_folder *folder); /* NULL is fine */
/* Absolute paths. */
const char *state_folder_path(const struct state_folder *folder);
const char *state_folder_handlers(const struct state_folder *folder);
const char *state_folder_run(const struct state_folder *folder);

/* Removes a file or a folder with all in it; nothing if it is not there. */
int remove_tree(const char *path, struct err *err) MUST_CHECK;

#endif
