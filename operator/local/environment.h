/* environment.h - the environment of a function's process, put together as Kubernetes does for a container.
 *
 * envFrom first, then env; what comes later replaces what came before. $(NAME) in a value of env stands for a variable that is there
 * already, $$ for $.
 *
 * Threads: none of its own.
 */
#ifndef CICADA_LOCAL_ENVIRONMENT_H
#define CICADA_LOCAL_ENVIRONMENT_H

#include "operator/function/function_spec.h"
#include "operator/local/data_store.h"

#define ENVIRONMENT_VALUE_MAX_BYTES (128 << 10) /* the kernel's limit of one variable */

struct environment {
    char **variables; /* NAME=value */
    size_t count;
};

void environment_init(struct environment *environment);
/* Replaces. value NULL: nothing happens. */
void environment_set(struct environment *environment, const char *name, const char *value);
/* spec.envFrom and spec.env. *ret_reason: a literal, why not. */
int environment_add_spec(struct environment *environment, const struct function_spec *spec,
                         const struct data_store *data, const char **ret_reason, struct err *err) MUST_CHECK;
/* The variables, ended by NULL; the caller frees with environment_free(). The environment is empty afterwards. */
char **environment_detach(struct environment *environment);
void environment_free(char **variables); /* NULL is fine */

#endif
