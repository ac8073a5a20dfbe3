/* path_template.h - "/users/{id}/orders" against a path: names one element each.
 *
 * Elements are compared after percent-decoding, so "%2F" inside an element is part of its value. A parameter is never
 * empty. A final '/' of the path is ignored.
 */
#ifndef CICADA_HOST_PATH_TEMPLATE_H
#define CICADA_HOST_PATH_TEMPLATE_H

#include <stdbool.h>

#include "runtime/base/err.h"
#include "runtime/host/arena.h"
#include "runtime/host/field_list.h"

#define PATH_TEMPLATE_MAX_BYTES      1024
#define PATH_TEMPLATE_PARAMETERS_MAX 16

/* ERR_INVALID: not beginning with '/', unbalanced braces, a name that is no identifier or comes twice, too long. */
int path_template_check(const char *template, struct err *err) MUST_CHECK;

/* *ret_matched false: the path has another shape; parameters are in the arena. ERR_INVALID: bad percent-encoding. The
 * template was checked before. */
int path_template_match(const char *template, const char *raw_path, struct arena *arena, bool *ret_matched,
                        struct field_list *ret_parameters, struct err *err) MUST_CHECK;

#endif
