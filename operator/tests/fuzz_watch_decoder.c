/* The first byte is the size of the pieces in which the rest is fed. Whatever the pieces, the events are the same. */
#include "operator/kube/kube_watch_decoder.h"

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

struct summary {
    uint64_t hash;
    enum err_code code;
};

static int on_event(void *arg, enum kube_watch_type type, cJSON *object, struct err *err)
{
    struct summary *summary = arg;
    CLEANUP_JSON cJSON *owned = object;
    (void)err;
    uint64_t object_hash = json_hash(owned);
    summary->hash = hash_fnv1a(summary->hash, &type, sizeof(type));
    summary->hash = hash_fnv1a(summary->hash, &object_hash, sizeof(object_hash));
    return 0;
}

static struct summary decode(const char *data, size_t len, size_t step)
{
    struct summary summary = {.hash = HASH_FNV1A_START};
    struct err err = ERR_INIT;
    CLEANUP(kube_watch_decoder_release) struct kube_watch_decoder decoder;
    kube_watch_decoder_init(&decoder, on_event, &summary);
    int rc = 0;
    for (size_t at = 0; at < len && rc == 0; at += step)
        rc = kube_watch_decoder_feed(&decoder, data + at, len - at < step ? len - at : step, &err);
    summary.code = err.code;
    return summary;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    const char *text = (const char *)data + 1;
    struct summary whole = decode(text, size - 1, SIZE_MAX / 2);
    struct summary pieces = decode(text, size - 1, data[0] ? data[0] : 1);
    if (whole.hash != pieces.hash || whole.code != pieces.code)
        abort();
    return 0;
}
