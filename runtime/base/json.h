/* json.h - strict JSON on top of cJSON, for objects that programs of ours read and write (Kubernetes, CICADA_SPEC).
 *
 * json_parse() first checks the text strictly (RFC 8259: UTF-8, no duplicate names, no \u0000 in strings, no trailing
 * bytes, depth limit) and then builds a cJSON tree. Names are matched case-sensitively everywhere. The tree is freed
 * with cJSON_Delete(); CLEANUP_JSON does it at the end of scope.
 *
 * Getters return NULL or the given default when the member is absent, null, or of another type, and accept a NULL
 * object, so that chains read well: json_string(json_object(pod, "metadata"), "name").
 *
 * Threads: none of its own. A tree that nobody changes may be read by many threads.
 */
#ifndef CICADA_BASE_JSON_H
#define CICADA_BASE_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/strbuf.h"

#define JSON_DEPTH_MAX 64

static inline void json_free_p(cJSON **tree)
{
    cJSON_Delete(*tree);
}
#define CLEANUP_JSON __attribute__((cleanup(json_free_p)))

/* max_depth counts nested arrays and objects. err says "line L column C: ...". Numbers become doubles: integers beyond
 * 2^53 lose digits (json_reader.h keeps them), numbers beyond the range of double are refused. The limits on values and
 * bytes are those of json_reader.h (ERR_TOO_LARGE). */
int json_parse(const char *text, size_t len, int max_depth, cJSON **ret_tree, struct err *err) MUST_CHECK;
/* The strict check alone. */
int json_check(const char *text, size_t len, int max_depth, struct err *err) MUST_CHECK;

const cJSON *json_get(const cJSON *object, const char *name); /* any type, also null */
const cJSON *json_object(const cJSON *object, const char *name);
const cJSON *json_array(const cJSON *object, const char *name);
const char *json_string(const cJSON *object, const char *name); /* borrowed from the tree */
int64_t json_int64(const cJSON *object, const char *name, int64_t absent);
bool json_bool(const cJSON *object, const char *name, bool absent);
/* Path of names ended by NULL: json_path(pod, "status", "podIP", NULL). */
const cJSON *json_path(const cJSON *object, ...) __attribute__((sentinel));

/* Building. Each returns the added item (owned by object); values are copied. Integers print exactly. */
cJSON *json_add_string(cJSON *object, const char *name, const char *value); /* value NULL: nothing is added */
cJSON *json_add_int64(cJSON *object, const char *name, int64_t value);
cJSON *json_add_bool(cJSON *object, const char *name, bool value);
cJSON *json_add_object(cJSON *object, const char *name);
cJSON *json_add_array(cJSON *object, const char *name);
cJSON *json_add_copy(cJSON *object, const char *name, const cJSON *value); /* value NULL: nothing is added */
cJSON *json_append_string(cJSON *array, const char *value);
cJSON *json_append_object(cJSON *array);
cJSON *json_append_copy(cJSON *array, const cJSON *value);

/* Compact text; integers of up to 2^53 in plain digits (cJSON alone prints large ones in exponent form). */
int json_print(const cJSON *tree, struct strbuf *out, struct err *err) MUST_CHECK;
/* The caller frees. Aborts on a tree that has no text (a number that is not finite: a bug of ours). */
char *json_print_dup(const cJSON *tree);

/* True if `live` contains all of `intent`: objects by name, recursively; arrays element by element and of the same
 * length; numbers by value. What `intent` does not name is not looked at. */
bool json_covers(const cJSON *live, const cJSON *intent);
/* Hash of the canonical form (object members sorted by name). */
uint64_t json_hash(const cJSON *tree);

#endif
