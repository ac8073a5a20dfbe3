/* pg_array.h - the text form of an array, written element by element into a strbuf that begins empty. Overflow is seen in the strbuf.
 *
 * Threads: none of its own.
 */
#ifndef CICADA_POSTGRES_PG_ARRAY_H
#define CICADA_POSTGRES_PG_ARRAY_H

#include <stdint.h>

#include "runtime/base/strbuf.h"

void pg_array_add_text(struct strbuf *array, const char *text);
void pg_array_add_number(struct strbuf *array, int64_t number);
/* Ends it, also one without elements; returns its text, which is the strbuf's. */
const char *pg_array_end(struct strbuf *array);

#endif
