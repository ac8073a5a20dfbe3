/* yaml_plain.h - what a plain (unquoted) scalar of YAML means. Internal to runtime/base. */
#ifndef CICADA_BASE_YAML_PLAIN_H
#define CICADA_BASE_YAML_PLAIN_H

#include "runtime/base/yaml.h"

enum yaml_plain { PLAIN_STRING, PLAIN_NULL, PLAIN_FALSE, PLAIN_TRUE, PLAIN_NUMBER, PLAIN_NOT_FINITE };

/* *ret_number is set for PLAIN_NUMBER; it may be infinite if the text is out of range. */
enum yaml_plain yaml_plain_resolve(const char *text, enum yaml_dialect dialect, double *ret_number);

#endif
