#include "operator/gateway/h1_partial.h"

#include "runtime/base/mem.h"

struct h1_partial *h1_partial_new(enum h1_kind kind, size_t cap_bytes)
{
    struct h1_partial *partial = xcalloc(1, sizeof(*partial));
    h1_scan_init(&partial->scan, kind);
    strbuf_init(&partial->bytes, cap_bytes);
    return partial;
}

void h1_partial_free(struct h1_partial *partial)
{
    if (partial) {
        strbuf_release(&partial->bytes);
        free(partial);
    }
}
