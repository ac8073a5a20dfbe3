#include "operator/kube/kube_watch_decoder.h"

#include "operator/kube/kube_object.h"
#include "operator/kube/kube_status.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

void kube_watch_decoder_init(struct kube_watch_decoder *decoder, kube_watch_fn *on_event, void *arg)
{
    decoder->on_event = on_event;
    decoder->arg = arg;
    decoder->unreadable = 0;
    strbuf_init(&decoder->tail, KUBE_WATCH_LINE_MAX_BYTES);
}

void kube_watch_decoder_release(struct kube_watch_decoder *decoder)
{
    strbuf_release(&decoder->tail);
}

static bool type_of(const char *text, enum kube_watch_type *ret_type)
{
    static const char *const names[] = {
        [KUBE_WATCH_ADDED] = "ADDED",
        [KUBE_WATCH_MODIFIED] = "MODIFIED",
        [KUBE_WATCH_DELETED] = "DELETED",
        [KUBE_WATCH_BOOKMARK] = "BOOKMARK",
    };
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            *ret_type = (enum kube_watch_type)i;
            return true;
        }
    }
    return false;
}

static int decode_unreadable(struct kube_watch_decoder *decoder, const char *line, size_t len,
                             struct err *err)
{
    cJSON *stub = kube_object_stub(line, len, "object");
    if (!stub)
        return err_wrap(err, "watch");
    err_clear(err);
    decoder->unreadable++;
    return decoder->on_event(decoder->arg, KUBE_WATCH_DELETED, stub, err);
}

static int decode_line(struct kube_watch_decoder *decoder, const char *line, size_t len, struct err *err)
{
    if (len > 0 && line[len - 1] == '\r')
        len--;
    if (len == 0)
        return 0;
    if (len > KUBE_WATCH_LINE_MAX_BYTES)
        return err_set(err, ERR_TOO_LARGE, "watch: line above %u bytes", KUBE_WATCH_LINE_MAX_BYTES);
    CLEANUP_JSON cJSON *event = NULL;
    if (json_parse(line, len, JSON_DEPTH_MAX, &event, err) != 0)
        return decode_unreadable(decoder, line, len, err);
    const char *type_text = json_string(event, "type");
    if (!type_text || !json_object(event, "object"))
        return err_set(err, ERR_INVALID, "watch: event without type or object");
    if (strcmp(type_text, "ERROR") == 0) {
        kube_status_from_object(json_object(event, "object"), err);
        return err_wrap(err, "watch");
    }
    enum kube_watch_type type;
    if (!type_of(type_text, &type))
        return err_set(err, ERR_INVALID, "watch: unknown event type \"%.40s\"", type_text);
    cJSON *object = cJSON_DetachItemFromObjectCaseSensitive(event, "object");
    kube_object_strip(object);
    return decoder->on_event(decoder->arg, type, object, err);
}

static int keep_tail(struct kube_watch_decoder *decoder, const char *data, size_t len, struct err *err)
{
    if (strbuf_append(&decoder->tail, data, len) != 0)
        return err_set(err, ERR_TOO_LARGE, "watch: line above %u bytes", KUBE_WATCH_LINE_MAX_BYTES);
    return 0;
}

int kube_watch_decoder_feed(struct kube_watch_decoder *decoder, const char *data, size_t len, struct err *err)
{
    while (len > 0) {
        const char *newline = memchr(data, '\n', len);
        if (!newline)
            return keep_tail(decoder, data, len, err);
        size_t piece = (size_t)(newline - data);
        if (decoder->tail.len == 0) {
            if (decode_line(decoder, data, piece, err) != 0)
                return -1;
        } else {
            if (keep_tail(decoder, data, piece, err) != 0 ||
                decode_line(decoder, decoder->tail.buf, decoder->tail.len, err) != 0)
                return -1;
            /* Released, not cleared: one large object must not pin its size for the length of a watch. */
            strbuf_release(&decoder->tail);
            strbuf_init(&decoder->tail, KUBE_WATCH_LINE_MAX_BYTES);
        }
        data += piece + 1;
        len -= piece + 1;
    }
    return 0;
}
