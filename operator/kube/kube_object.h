/* kube_object.h - what is done to every object that comes from the API.
 *
 * The API server stores JSON that our strict parser refuses: "\u0000" in an annotation, a hundred nested objects where unknown
 * fields are kept. Whoever may write one such object must not bring down the list and the watch of its whole kind, so an object
 * that can't be read counts as absent: all that is taken from it is which one it is.
 *
 * Threads: none of its own.
 */
#ifndef CICADA_KUBE_KUBE_OBJECT_H
#define CICADA_KUBE_KUBE_OBJECT_H

#include <cjson/cJSON.h>
#include <stddef.h>

/* Takes metadata.managedFields out: nobody here reads it, and it is often the larger part. */
void kube_object_strip(cJSON *object);

/* From text that json_parse() refused: {"metadata": {namespace, name, uid, resourceVersion}} of the object that it holds, or that
 * its member `member` holds (NULL: the text itself). NULL if it does not tell name and resourceVersion: then it is no object at all. */
cJSON *kube_object_stub(const char *text, size_t len, const char *member);

#endif
