/* support_function.h - Functions and other objects for tests, from YAML and JSON text. Threads: none of its own. */
#ifndef CICADA_TESTS_SUPPORT_FUNCTION_H
#define CICADA_TESTS_SUPPORT_FUNCTION_H

#include "operator/function/function_spec.h"

/* Fails the test if the text is not one YAML document; the caller frees. Flow style takes no indentation. */
cJSON *support_yaml(const char *text);
/* A file of the repository, below its root. */
char *support_read(const char *path);
bool support_exists(const char *path);
/* An object of kind Function named shop/create-order with this spec (YAML), which lacks only the handler. */
cJSON *support_function(const char *spec_yaml);
/* Its spec, which must be valid. */
struct function_spec *support_spec(const char *spec_yaml);
/* RFC 7386: merges patch into target. */
void support_merge(cJSON *target, const cJSON *patch);

static inline void support_spec_unref_p(struct function_spec **spec)
{
    function_spec_unref(*spec);
}
#define CLEANUP_SPEC __attribute__((cleanup(support_spec_unref_p)))

#endif
