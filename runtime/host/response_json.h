/* response_json.h - JSON as the body of a response, piece by piece: the write calls of the SDK. */
#ifndef CICADA_HOST_RESPONSE_JSON_H
#define CICADA_HOST_RESPONSE_JSON_H

#include "runtime/host/response.h"

void response_write_begin(struct cicada_response *response, const char *name, bool array);
void response_write_end(struct cicada_response *response);
/* len SIZE_MAX: up to its NUL. text NULL: null. */
void response_write_string(struct cicada_response *response, const char *name, const char *text, size_t len);
void response_write_int64(struct cicada_response *response, const char *name, int64_t value);
void response_write_double(struct cicada_response *response, const char *name, double value);
void response_write_bool(struct cicada_response *response, const char *name, bool value);
void response_write_null(struct cicada_response *response, const char *name);
void response_write_raw(struct cicada_response *response, const char *name, const char *json, size_t len);
void response_write_row(struct cicada_response *response, const char *name,
                        const struct cicada_result *result, int32_t row);

#endif
