/* kube_object.h - what is done to every object that comes from the API.
 *
 * Threads: none of its own.
 */
#ifndef CICADA_KUBE_KUBE_OBJECT_H
#define CICADA_KUBE_KUBE_OBJECT_H

#include <cjson/cJSON.h>

/* Takes metadata.managedFields out: nobody here reads it, and it is often the larger part. */
void kube_object_strip(cJSON *object);

#endif
