/* field_list.h - names with values, in the order they came: headers, query and path parameters of one request. */
#ifndef CICADA_HOST_FIELD_LIST_H
#define CICADA_HOST_FIELD_LIST_H

#include <stddef.h>

struct field {
    const char *name;
    const char *value;
};
struct field_list {
    struct field *fields; /* in the request's arena */
    size_t count;
};

#endif
