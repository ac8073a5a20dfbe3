/* accept.h - which of two forms of an answer the client wants: the Accept header (RFC 9110, 12.5.1). Pure. */
#ifndef CICADA_HOST_ACCEPT_H
#define CICADA_HOST_ACCEPT_H

#include <stdbool.h>

/* Room for what the headers of one request say; begin with {0}. */
struct accept_view {
    int csv, json; /* best weight in thousandths */
    int csv_exactness,
        json_exactness; /* of the range it came from: a whole type counts more than a pattern */
};

void accept_read(struct accept_view *view, const char *header); /* once for each header of that name */
/* True if CSV is preferred: it is named, by itself or with all of text, with a higher weight than JSON. */
bool accept_wants_csv(const struct accept_view *view);

#endif
