/* structural_schema_internal.h - the compiled form that structural_schema.c makes and structural_schema_check.c walks. */
#ifndef CICADA_FUNCTION_STRUCTURAL_SCHEMA_INTERNAL_H
#define CICADA_FUNCTION_STRUCTURAL_SCHEMA_INTERNAL_H

#include <regex.h>

#include "operator/function/structural_schema.h"

enum schema_type {
    SCHEMA_TYPE_ANY,
    SCHEMA_TYPE_OBJECT,
    SCHEMA_TYPE_ARRAY,
    SCHEMA_TYPE_STRING,
    SCHEMA_TYPE_INTEGER,
    SCHEMA_TYPE_NUMBER,
    SCHEMA_TYPE_BOOLEAN,
};

struct schema_strings {
    char **items;
    size_t count;
};

struct schema_property {
    char *name;
    struct structural_schema *schema;
};

struct schema_list {
    struct structural_schema **items;
    size_t count;
};

struct structural_schema {
    enum schema_type type;
    bool int_or_string, keeps_unknown, nullable, list_set;
    struct schema_property *properties;
    size_t property_count;
    struct structural_schema *additional; /* of all other members; NULL: they are unknown */
    struct structural_schema *items;
    struct schema_strings required;
    struct schema_strings list_keys; /* of a list map; none: it is no list map */
    cJSON *choices;                  /* array; NULL: any value */
    char *pattern;
    regex_t regex; /* of pattern, if that is not NULL */
    bool has_minimum, has_maximum;
    double minimum, maximum;
    size_t min_length, max_length, min_items, max_items, max_properties; /* SIZE_MAX: no maximum */
    struct schema_list one_of, any_of;
    struct structural_schema * not ;
};

#endif
