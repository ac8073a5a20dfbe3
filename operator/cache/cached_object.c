#include "operator/cache/informer.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

static char *text_or_empty(const cJSON *metadata, const char *name)
{
    const char *text = json_string(metadata, name);
    return xstrdup(text ? text : "");
}

void cached_object_init(struct cached_object *object, const cJSON *tree,
                        void (*release)(struct cached_object *self))
{
    const cJSON *metadata = json_object(tree, "metadata");
    atomic_init(&object->refs, 1);
    object->release = release;
    object->namespace = text_or_empty(metadata, "namespace");
    object->name = text_or_empty(metadata, "name");
    object->uid = text_or_empty(metadata, "uid");
    object->resource_version = text_or_empty(metadata, "resourceVersion");
}

void cached_object_release_names(struct cached_object *object)
{
    free(object->namespace);
    free(object->name);
    free(object->uid);
    free(object->resource_version);
}

struct cached_object *cached_object_ref(struct cached_object *object)
{
    atomic_fetch_add_explicit(&object->refs, 1, memory_order_relaxed);
    return object;
}

void cached_object_unref(struct cached_object *object)
{
    if (object && atomic_fetch_sub_explicit(&object->refs, 1, memory_order_acq_rel) == 1)
        object->release(object);
}
