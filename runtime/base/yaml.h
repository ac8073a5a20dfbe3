/* yaml.h - YAML (libyaml events) to the same trees that json.h uses.
 *
 * Plain scalars are resolved by the YAML 1.2 core schema, unless another dialect is asked for; quoted ones are strings.
 * Anchors, aliases, merge keys, duplicate names and tags other than the core ones are refused, as are depth above
 * JSON_DEPTH_MAX and input above YAML_MAX_BYTES.
 */
#ifndef CICADA_BASE_YAML_H
#define CICADA_BASE_YAML_H

#include <cjson/cJSON.h>
#include <stddef.h>

#include "runtime/base/err.h"
#include "runtime/base/yaml_marks.h"

#define YAML_MAX_BYTES (3u << 20)

enum yaml_dialect {
    YAML_DIALECT_CORE, /* YAML 1.2: true, false, 12, 0o17, 0x1F, 1.5e3 */
    YAML_DIALECT_KUBECTL, /* as kubectl and the API server read manifests: also yes, no, on, off, y, n; 017, 0b11, 1_000 */
};

/* All documents of the stream as a JSON array (empty documents left out). The caller frees with cJSON_Delete().
 * err says "line L column C: ...". */
int yaml_documents_parse(const char *text, size_t len, cJSON **ret_documents, struct err *err) MUST_CHECK;
/* Exactly one document. */
int yaml_document_parse(const char *text, size_t len, cJSON **ret_tree, struct err *err) MUST_CHECK;

/* The same as yaml_documents_parse(), with the positions of all nodes but the array itself. On error *ret_where is the place,
 * line 0 if there is none (text above the limit), and err does not repeat it. */
int yaml_documents_read(const char *text, size_t len, enum yaml_dialect dialect, cJSON **ret_documents,
                        struct yaml_marks **ret_marks, struct yaml_mark *ret_where,
                        struct err *err) MUST_CHECK;

#endif
