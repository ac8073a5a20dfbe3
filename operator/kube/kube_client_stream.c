/* kube_client_stream.c - the two verbs whose answers are read while they come: list and watch. */
#include "operator/kube/kube_client_internal.h"
#include "operator/kube/kube_list_scanner.h"
#include "operator/kube/kube_path.h"
#include "operator/kube/kube_status.h"
#include "operator/kube/kube_watch_decoder.h"
#include "runtime/base/mem.h"

/* The server ends a watch itself after timeoutSeconds; this much later it counts as dead. A shorter limit would cut watches that
 * are merely quiet; a peer that vanished is noticed earlier by TCP. */
#define WATCH_GRACE_MS 15000

static int stream(struct kube_client *client, const struct kube_path *path, int64_t timeout_ms,
                  http_client_bytes_fn *on_bytes, void *arg, struct err *err)
{
    struct http_client_request request = {
        .method = "GET",
        .path_and_query = path->text.buf,
        .timeout_ms = timeout_ms,
        .max_response_bytes = KUBE_STATUS_MAX_BYTES,
    };
    CLEANUP(http_client_response_release) struct http_client_response response = {0};
    kube_client_count(client, request.method);
    if (client->transport->ops->stream(client->transport, &request, on_bytes, arg, &response, err) != 0)
        return err_wrap(err, "GET %.*s", (int)strcspn(path->text.buf, "?"), path->text.buf);
    if (response.status < 200 || response.status > 299)
        return kube_status_from_answer(response.status, response.retry_after_ms, response.body.buf,
                                       response.body.len, err);
    return 0;
}

static int collection_path(struct kube_path *path, const struct kube_resource *resource,
                           const char *namespace, const struct kube_list_options *options, struct err *err)
{
    if (kube_path_set(path, resource, namespace, /* name= */ NULL, /* subresource= */ NULL, err) != 0)
        return -1;
    kube_path_query(path, "labelSelector", options->label_selector);
    kube_path_query(path, "fieldSelector", options->field_selector);
    kube_path_query(path, "resourceVersion", options->resource_version);
    return 0;
}

static void query_int(struct kube_path *path, const char *key, int value)
{
    CLEANUP_FREE char *text = xasprintf("%d", value);
    kube_path_query(path, key, text);
}

struct list_reading {
    struct kube_client *client;
    struct kube_list_scanner *scanner;
};

static int feed_list(void *arg, const char *data, size_t len, struct err *err)
{
    struct list_reading *reading = arg;
    int64_t before = reading->scanner->unreadable;
    int rc = kube_list_scanner_feed(reading->scanner, data, len, err);
    kube_client_count_unreadable(reading->client, reading->scanner->unreadable - before);
    return rc;
}

int kube_list(struct kube_client *client, const struct kube_resource *resource, const char *namespace,
              const struct kube_list_options *options, kube_item_fn *on_item, void *arg,
              struct kube_list_meta *ret_meta, struct err *err)
{
    CLEANUP(kube_path_release) struct kube_path path;
    kube_path_init(&path);
    if (collection_path(&path, resource, namespace, options, err) != 0)
        return -1;
    if (options->limit > 0)
        query_int(&path, "limit", options->limit);
    kube_path_query(&path, "continue", options->continue_token);
    if (kube_path_finish(&path, err) != 0)
        return -1;
    CLEANUP(kube_list_scanner_release) struct kube_list_scanner scanner;
    kube_list_scanner_init(&scanner, on_item, arg);
    struct list_reading reading = {.client = client, .scanner = &scanner};
    if (stream(client, &path, atomic_load(&client->timeout_ms), feed_list, &reading, err) != 0)
        return -1;
    return kube_list_scanner_finish(&scanner, ret_meta, err);
}

struct watch_reading {
    struct kube_client *client;
    struct kube_watch_decoder *decoder;
};

static int feed_watch(void *arg, const char *data, size_t len, struct err *err)
{
    struct watch_reading *reading = arg;
    int64_t before = reading->decoder->unreadable;
    int rc = kube_watch_decoder_feed(reading->decoder, data, len, err);
    kube_client_count_unreadable(reading->client, reading->decoder->unreadable - before);
    return rc;
}

int kube_watch(struct kube_client *client, const struct kube_resource *resource, const char *namespace,
               const struct kube_list_options *options, int timeout_seconds, kube_watch_fn *on_event,
               void *arg, struct err *err)
{
    CLEANUP(kube_path_release) struct kube_path path;
    kube_path_init(&path);
    if (collection_path(&path, resource, namespace, options, err) != 0)
        return -1;
    kube_path_query(&path, "watch", "true");
    kube_path_query(&path, "allowWatchBookmarks", "true");
    query_int(&path, "timeoutSeconds", timeout_seconds);
    if (kube_path_finish(&path, err) != 0)
        return -1;
    CLEANUP(kube_watch_decoder_release) struct kube_watch_decoder decoder;
    kube_watch_decoder_init(&decoder, on_event, arg);
    struct watch_reading reading = {.client = client, .decoder = &decoder};
    return stream(client, &path, (int64_t)timeout_seconds * 1000 + WATCH_GRACE_MS, feed_watch, &reading, err);
}
