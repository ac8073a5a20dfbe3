#include "operator/kube/kube_object.h"

void kube_object_strip(cJSON *object)
{
    cJSON *metadata = cJSON_GetObjectItemCaseSensitive(object, "metadata");
    cJSON_DeleteItemFromObjectCaseSensitive(metadata, "managedFields");
}
