/* kube_watch_decoder.h - a watch's bytes in, events out.
 *
 * One JSON object per line; a line may come in any number of pieces and is parsed once, when it is whole. A line without
 * its newline at the end of the stream is no event. An ERROR event ends the decoding with the err of its Status (410 is
 * ERR_GONE). metadata.managedFields is taken out of every object. One that can't be read is told as deleted, with nothing but its
 * names (kube_object.h).
 *
 * Threads: one owner at a time.
 */
#ifndef CICADA_KUBE_KUBE_WATCH_DECODER_H
#define CICADA_KUBE_KUBE_WATCH_DECODER_H

#include "operator/kube/kube_client.h"
#include "runtime/base/strbuf.h"

#define KUBE_WATCH_LINE_MAX_BYTES (12u << 20) /* as KUBE_ITEM_MAX_BYTES */

struct kube_watch_decoder {
    kube_watch_fn *on_event;
    void *arg;
    struct strbuf tail; /* the start of a line whose newline has not come yet */
    int64_t unreadable; /* objects told as deleted because of that */
};

void kube_watch_decoder_init(struct kube_watch_decoder *decoder, kube_watch_fn *on_event, void *arg);
void kube_watch_decoder_release(struct kube_watch_decoder *decoder);
/* ERR_TOO_LARGE: line above the limit; ERR_INVALID: no event; else what ERROR said or what on_event returned. After an
 * error the decoder can only be released. */
int kube_watch_decoder_feed(struct kube_watch_decoder *decoder, const char *data, size_t len,
                            struct err *err) MUST_CHECK;

#endif
