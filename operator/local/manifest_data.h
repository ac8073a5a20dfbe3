/* manifest_data.h - the content of Secrets and ConfigMaps. Internal to operator/local. Threads: none of its own. */
#ifndef CICADA_LOCAL_MANIFEST_DATA_H
#define CICADA_LOCAL_MANIFEST_DATA_H

#include "operator/function/structural_schema.h"
#include "operator/local/manifest.h"

/* Their schemas, in YAML. */
extern const char manifest_secret_schema[], manifest_config_map_schema[];

/* object fits its schema. Problems are added; data is added to target as far as it is fine. A Secret's stringData wins over data. */
void manifest_data_read(const cJSON *object, struct manifest_object *target,
                        struct schema_problems *problems);
void manifest_data_free(struct manifest_data *data, size_t count);

#endif
