/* handler_store.h - copies of the shared objects that handlers are in.
 *
 * A process maps the file that its handler is in, and a build may write into that very file: so each process gets a copy, made when
 * the file is complete, in a folder that becomes its --function-dir. An unchanged file (device, inode, size, time) is copied once.
 *
 * Ownership: a copy is reference-counted and removed with its last reference; the store outlives its copies.
 * Threads: one.
 */
#ifndef CICADA_LOCAL_HANDLER_STORE_H
#define CICADA_LOCAL_HANDLER_STORE_H

#include "runtime/base/err.h"

#define HANDLER_FILE_MAX_BYTES (256 << 20)

struct handler_store;
struct handler_copy;

/* source_folder: where the author's files are; copy_folder: is made, and emptied by whoever made it. */
struct handler_store *handler_store_new(const char *source_folder, const char *copy_folder);
void handler_store_free(struct handler_store *store); /* NULL is fine */

/* file: "shop.so" or "sub/shop.so". The file as it is now; a reference for the caller. ERR_NOT_FOUND; ERR_CONFLICT: it is being written,
 * look again when that is over. */
int handler_store_take(struct handler_store *store, const char *file, struct handler_copy **ret_copy,
                       struct err *err) MUST_CHECK;
const char *handler_copy_folder(const struct handler_copy *copy);
const char *handler_copy_file(const struct handler_copy *copy); /* as it was asked for */
struct handler_copy *handler_copy_ref(struct handler_copy *copy);
void handler_copy_unref(struct handler_copy *copy); /* NULL is fine */

#endif
