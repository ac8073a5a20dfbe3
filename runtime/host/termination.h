/* termination.h - why the process ends, as Kubernetes shows it: {"reason":"HandlerLoadFailed","message":"..."}. */
#ifndef CICADA_HOST_TERMINATION_H
#define CICADA_HOST_TERMINATION_H

#include "runtime/base/err.h"
#include "runtime/base/strbuf.h"

#define TERMINATION_MAX_BYTES 4096u /* the kubelet reads no more */

void termination_print(const char *reason, const char *message, struct strbuf *out);
/* Overwrites the file at `path`, the container's termination message path. */
int termination_write(const char *path, const char *reason, const char *message, struct err *err) MUST_CHECK;

#endif
