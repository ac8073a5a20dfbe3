/* yaml_safe.h - JSON text that a YAML parser reads as the same value.
 *
 * The server reads apply bodies as YAML, in which some characters may not stand bare in a string (DEL, C1 controls, byte order
 * mark) and others are line breaks that become spaces (NEL, LS, PS). All of them are written as \u escapes here; outside
 * strings JSON has none of them.
 *
 * Threads: no shared state.
 */
#ifndef CICADA_KUBE_YAML_SAFE_H
#define CICADA_KUBE_YAML_SAFE_H

#include "runtime/base/strbuf.h"

/* Appends to out. json must be valid JSON. -1: above the cap of out. */
int yaml_safe_from_json(const char *json, size_t len, struct strbuf *out);

#endif
