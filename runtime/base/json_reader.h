/* json_reader.h - strict JSON as an index over its text: what handlers read bodies with.
 *
 * Unlike a cJSON tree it keeps the source text of numbers, refuses what JSON (RFC 8259) does not allow, and costs two
 * allocations per document. The document borrows the text, which must outlive it. Refused: duplicate names, \u0000, invalid
 * UTF-8, lone surrogates, trailing bytes, depth above the limit, more than JSON_READER_NODES_MAX values.
 *
 * Threads: a document is read-only; strings are decoded at parse.
 */
#ifndef CICADA_BASE_JSON_READER_H
#define CICADA_BASE_JSON_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"

#define JSON_READER_NODES_MAX 1000000
#define JSON_READER_BYTES_MAX (1u << 30)
#define JSON_READER_DEPTH_MAX 512 /* whatever max_depth says */

enum json_type { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json_doc;  /* owns nodes and decoded strings */
struct json_node; /* one value; valid as long as its document */

int json_reader_parse(const char *text, size_t len, int max_depth, struct json_doc **ret_doc,
                      struct err *err) MUST_CHECK;
void json_doc_free(struct json_doc *doc);
const struct json_node *json_doc_root(const struct json_doc *doc);

enum json_type json_node_type(const struct json_node *node);
/* Source text of the value (numbers as written, strings with quotes and escapes, whole arrays and objects). */
const char *json_node_raw(const struct json_node *node, size_t *ret_len);
/* Decoded string, NUL-terminated; NULL if the node is no string. ret_len may be NULL, also below. */
const char *json_node_string(const struct json_node *node, size_t *ret_len);
/* False if it is no number, has a fraction or exponent that makes it no integer, or does not fit. */
bool json_node_int64(const struct json_node *node, int64_t *ret_value);
bool json_node_double(const struct json_node *node, double *ret_value);

const struct json_node *json_node_member(const struct json_node *object, const char *name); /* NULL: absent */
size_t json_node_count(const struct json_node *node);                  /* members or elements; 0 for others */
const struct json_node *json_node_first(const struct json_node *node); /* first child or NULL */
const struct json_node *json_node_next(const struct json_node *node);  /* next sibling or NULL */
const char *json_node_name(const struct json_node *node, size_t *ret_len); /* member name; NULL in arrays */

#endif
