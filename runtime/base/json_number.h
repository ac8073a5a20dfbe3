/* json_number.h - values of JSON number texts, exactly. For json.c and json_reader.c; the text must be a valid number. */
#ifndef CICADA_BASE_JSON_NUMBER_H
#define CICADA_BASE_JSON_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* False if the value is no integer ("1.0" and "1e3" are) or does not fit. */
bool json_number_int64(const char *text, size_t len, int64_t *ret_value);
/* False if the value is above the range of double. */
bool json_number_double(const char *text, size_t len, double *ret_value);

#endif
