/* YAML from any bytes; what is taken must print as strict JSON. JSON that both take must mean the same. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool truth)
{
    if (!truth) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = ERR_INIT;
    const char *text = (const char *)data;
    CLEANUP_JSON cJSON *documents = NULL;
    if (yaml_documents_parse(text, size, &documents, &err) < 0) {
        require(err.code == ERR_INVALID || err.code == ERR_TOO_LARGE);
        return 0;
    }
    CLEANUP_FREE char *printed = json_print_dup(documents);
    CLEANUP_JSON cJSON *again = NULL;
    require(json_parse(printed, strlen(printed), JSON_DEPTH_MAX + 1, &again, &err) == 0);
    require(json_covers(documents, again) && json_covers(again, documents));
    CLEANUP_JSON cJSON *json = NULL;
    if (cJSON_GetArraySize(documents) == 1 && json_parse(text, size, JSON_DEPTH_MAX, &json, &err) == 0) {
        const cJSON *document = documents->child;
        require(json_covers(document, json) && json_covers(json, document));
    }
    return 0;
}
