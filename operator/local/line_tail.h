/* line_tail.h - the last lines that a process said. Threads: none of its own. */
#ifndef CICADA_LOCAL_LINE_TAIL_H
#define CICADA_LOCAL_LINE_TAIL_H

#include <stddef.h>

#define LINE_TAIL_LINES     5
#define LINE_TAIL_MAX_BYTES 512 /* of a line; longer ones are cut */

struct line_tail { /* zero it to begin */
    char *lines[LINE_TAIL_LINES];
    size_t next;
};

void line_tail_add(struct line_tail *tail, const char *text, size_t len);
/* The oldest first; NULL from the first one on that there never was. */
const char *line_tail_get(const struct line_tail *tail, size_t index);
void line_tail_release(struct line_tail *tail);

#endif
