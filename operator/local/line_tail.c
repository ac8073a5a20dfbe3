#include "operator/local/line_tail.h"

#include <stdlib.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"

void line_tail_add(struct line_tail *tail, const char *text, size_t len)
{
    char **slot = &tail->lines[tail->next++ % LINE_TAIL_LINES];
    free(*slot);
    *slot = xstrndup(text, len > LINE_TAIL_MAX_BYTES ? utf8_cut_len(text, LINE_TAIL_MAX_BYTES) : len);
}

const char *line_tail_get(const struct line_tail *tail, size_t index)
{
    size_t first = tail->next > LINE_TAIL_LINES ? tail->next : 0;
    return index < LINE_TAIL_LINES ? tail->lines[(first + index) % LINE_TAIL_LINES] : NULL;
}

void line_tail_release(struct line_tail *tail)
{
    for (size_t i = 0; i < LINE_TAIL_LINES; i++) {
        free(tail->lines[i]);
        tail->lines[i] = NULL;
    }
}
