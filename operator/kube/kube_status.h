/* kube_status.h - from an answer of the API server that is no 2xx, or a Status object in a watch, to an err.
 *
 * Threads: none of its own.
 */
#ifndef CICADA_KUBE_KUBE_STATUS_H
#define CICADA_KUBE_KUBE_STATUS_H

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"

#define KUBE_STATUS_MAX_BYTES (1u << 20)

/* Fills *err and returns -1. The body need not be a Status object, nor JSON. */
int kube_status_from_answer(int http_status, int64_t retry_after_ms, const char *body, size_t body_len,
                            struct err *err);
/* The same for a parsed Status; its own "code" counts. */
int kube_status_from_object(const cJSON *status, struct err *err);

#endif
