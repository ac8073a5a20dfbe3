/* function_check.h - typed reading of the members of a Function: each either fits the schema or is an error with its path.
 *
 * Absent and null are the same (the API server drops nulls); *ret is NULL then. err is ERR_INVALID, "spec.http.path: must begin with
 * '/'". Members that the schema does not know are not looked at: a newer CRD may be in place than this program, and its
 * defaults must not make every Function invalid; the API server prunes what it does not know.
 *
 * Ownership: trees are borrowed from the input, strings are copies for the caller. Threads: none of its own.
 */
#ifndef CICADA_FUNCTION_FUNCTION_CHECK_H
#define CICADA_FUNCTION_FUNCTION_CHECK_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"

/* NULL: fine; else why not, to be put behind the path. */
typedef const char *function_text_check(const char *text);

/* path: where `holder` is, such as "spec.http"; NULL for the root. */
int function_check_object(const cJSON *holder, const char *name, const char *path, const cJSON **ret_object,
                          struct err *err) MUST_CHECK;
int function_check_array(const cJSON *holder, const char *name, const char *path, int max_items,
                         const cJSON **ret_array, struct err *err) MUST_CHECK;
int function_check_string(const cJSON *holder, const char *name, const char *path, function_text_check *check,
                          char **ret_text, struct err *err) MUST_CHECK;
/* *ret_index is that of one of the choices; absent: it is left alone. */
int function_check_choice(const cJSON *holder, const char *name, const char *path, const char *const *choices,
                          size_t choice_count, size_t *ret_index, struct err *err) MUST_CHECK;
/* An array of strings without repeats. *ret_strings and *ret_count are set as far as it got, also on error. */
int function_check_string_set(const cJSON *holder, const char *name, const char *path, int max_items,
                              function_text_check *check, char ***ret_strings, size_t *ret_count,
                              struct err *err) MUST_CHECK;
void function_check_strings_free(char **strings, size_t count);

/* A whole number from min to max. absent: *ret_number is left alone. */
int function_check_integer(const cJSON *holder, const char *name, const char *path, int64_t min, int64_t max,
                           int64_t *ret_number, struct err *err) MUST_CHECK;
/* absent: *ret_value is left alone. */
int function_check_bool(const cJSON *holder, const char *name, const char *path, bool *ret_value,
                        struct err *err) MUST_CHECK;

/* spec.parameters. */
int function_check_parameters(const cJSON *spec, const cJSON **ret_parameters, struct err *err) MUST_CHECK;
/* spec.env, spec.envFrom, spec.template. What Kubernetes itself judges (affinity, quantities, ...) is left to it. */
int function_check_env(const cJSON *spec, const cJSON **ret_env, struct err *err) MUST_CHECK;
int function_check_env_from(const cJSON *spec, const cJSON **ret_env_from, struct err *err) MUST_CHECK;
int function_check_template(const cJSON *spec, const cJSON **ret_template, struct err *err) MUST_CHECK;

#endif
