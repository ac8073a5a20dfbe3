/* manifest_validate.h - what `cicada-local --validate` does: read all manifests, tell what is wrong, start nothing. */
#ifndef CICADA_LOCAL_MANIFEST_VALIDATE_H
#define CICADA_LOCAL_MANIFEST_VALIDATE_H

#include <stddef.h>
#include <stdio.h>

#include "operator/local/manifest.h"

#define MANIFEST_PROBLEMS_SHOWN_MAX 1000

/* Prints problems, MANIFEST_PROBLEMS_SHOWN_MAX at most; returns how many of them are errors, those not shown included. */
size_t manifest_problems_print(struct manifest_file *const *files, size_t count, FILE *out);

/* Arguments as manifest_paths.h has them. Prints problems, then "N functions, N secrets, N config maps: valid" or "N problems".
 * Returns the exit status: 0 valid, 1 not. */
int manifest_validate(const struct manifest_reader *reader, const char *const *arguments,
                      size_t argument_count, FILE *out);

#endif
