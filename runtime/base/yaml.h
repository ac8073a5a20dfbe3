/* yaml.h - YAML (libyaml events) to the same trees that json.h uses.
 *
 * Plain scalars are resolved by the YAML 1.2 core schema; quoted ones are strings. Anchors, aliases, merge keys,
 * duplicate names and tags other than the core ones are refused, as are depth above JSON_DEPTH_MAX and input above
 * YAML_MAX_BYTES. err says "line L column C: ...".
 */
#ifndef CICADA_BASE_YAML_H
#define CICADA_BASE_YAML_H

#include <cjson/cJSON.h>
#include <stddef.h>

#include "runtime/base/err.h"

#define YAML_MAX_BYTES (3u << 20)

/* All documents of the stream as a JSON array (empty documents left out). The caller frees with cJSON_Delete(). */
int yaml_documents_parse(const char *text, size_t len, cJSON **ret_documents, struct err *err) MUST_CHECK;
/* Exactly one document. */
int yaml_document_parse(const char *text, size_t len, cJSON **ret_tree, struct err *err) MUST_CHECK;

#endif
