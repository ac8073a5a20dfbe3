/* callers.h - what a Function is called by, for people.
 *
 * Threads: none of its own.
 */
#ifndef CICADA_LOCAL_CALLERS_H
#define CICADA_LOCAL_CALLERS_H

#include "operator/function/function_spec.h"

/* "http://127.0.0.1:8080/fn/shop/settle-payment/, queue payments". Empty: by nothing outside of --internal-listen. The caller frees. */
char *callers_text(const struct function_spec *spec, int port);

#endif
