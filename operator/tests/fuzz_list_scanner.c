/* The first byte is the size of the pieces in which the rest is fed. Whatever the pieces, the items are the same; and what the
 * scanner takes as a list is JSON with those items. */
#include "operator/kube/kube_list_scanner.h"

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

struct summary {
    uint64_t hash;
    int items;
    enum err_code code;
};

static int on_item(void *arg, cJSON *object, struct err *err)
{
    struct summary *summary = arg;
    CLEANUP_JSON cJSON *owned = object;
    (void)err;
    uint64_t hash = json_hash(owned);
    summary->hash = hash_fnv1a(summary->hash, &hash, sizeof(hash));
    summary->items++;
    return 0;
}

static struct summary scan(const char *data, size_t len, size_t step)
{
    struct summary summary = {.hash = HASH_FNV1A_START};
    struct err err = ERR_INIT;
    struct kube_list_meta meta = {0};
    CLEANUP(kube_list_scanner_release) struct kube_list_scanner scanner;
    kube_list_scanner_init(&scanner, on_item, &summary);
    int rc = 0;
    for (size_t at = 0; at < len && rc == 0; at += step)
        rc = kube_list_scanner_feed(&scanner, data + at, len - at < step ? len - at : step, &err);
    if (rc == 0)
        rc = kube_list_scanner_finish(&scanner, &meta, &err);
    if (rc == 0 && meta.resource_version)
        summary.hash = hash_fnv1a(summary.hash, meta.resource_version, strlen(meta.resource_version));
    kube_list_meta_release(&meta);
    summary.code = err.code;
    return summary;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    const char *text = (const char *)data + 1;
    struct summary whole = scan(text, size - 1, SIZE_MAX / 2);
    struct summary pieces = scan(text, size - 1, data[0] ? data[0] : 1);
    if (whole.hash != pieces.hash || whole.items != pieces.items || whole.code != pieces.code)
        abort();
    CLEANUP_JSON cJSON *tree = NULL;
    struct err err = ERR_INIT;
    if (whole.code != ERR_NONE || json_parse(text, size - 1, JSON_DEPTH_MAX + 2, &tree, &err) != 0)
        return 0; /* a member that comes twice is the one thing that only a full parse sees */
    if (cJSON_GetArraySize(json_array(tree, "items")) != whole.items)
        abort();
    return 0;
}
