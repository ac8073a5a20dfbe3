/* postgres_folder.h - where the files of our PostgreSQL are, and who is at work on them.
 *
 * Threads: none of its own.
 */
#ifndef CICADA_LOCAL_POSTGRES_FOLDER_H
#define CICADA_LOCAL_POSTGRES_FOLDER_H

#include "operator/local/console.h"
#include "operator/local/postgres_command.h"

#define POSTGRES_HALF_PREFIX "data.new." /* of folders that an initdb fills */

/* The folder, or, where the server's user can't get there, one that belongs to it and is elsewhere, which is said. The caller frees. */
char *postgres_folder_choose(const char *wanted, const struct postgres_user *user, struct console *console);
int postgres_folder_make(const char *folder, const struct postgres_user *user, struct err *err) MUST_CHECK;
/* A server works there. Its pid file does not tell: the number in it may be another program's by now. */
bool postgres_folder_in_use(const char *data);
/* What interrupted initdbs left. What still writes there keeps its folder until the next time. */
void postgres_folder_remove_halves(const char *folder);

#endif
