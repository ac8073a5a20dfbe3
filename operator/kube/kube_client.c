#include "operator/kube/kube_client.h"

#include "operator/kube/kube_client_internal.h"
#include "operator/kube/kube_object.h"
#include "operator/kube/kube_path.h"
#include "operator/kube/kube_status.h"
#include "operator/kube/kube_transport_curl.h"
#include "operator/kube/yaml_safe.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

#define REQUEST_TIMEOUT_MS 30000
#define OBJECT_MAX_BYTES   (8u << 20) /* etcd's limit is 1.5 MiB; managedFields and JSON come on top */

struct kube_client *kube_client_new_with_transport(struct kube_transport *transport)
{
    struct kube_client *client = xcalloc(1, sizeof(*client));
    client->transport = transport;
    atomic_init(&client->timeout_ms, REQUEST_TIMEOUT_MS);
    return client;
}

struct kube_client *kube_client_new(const struct kube_client_config *config, const struct stop *stop)
{
    return kube_client_new_with_transport(kube_transport_curl_new(config, &clock_system, stop));
}

struct kube_client *kube_client_new_derived(struct kube_client *parent, int64_t timeout_ms)
{
    struct kube_client *client = kube_client_new_with_transport(parent->transport);
    client->parent = parent->parent ? parent->parent : parent;
    atomic_store(&client->timeout_ms, timeout_ms);
    return client;
}

void kube_client_set_timeout(struct kube_client *client, int64_t timeout_ms)
{
    atomic_store(&client->timeout_ms, timeout_ms);
}

void kube_client_free(struct kube_client *client)
{
    if (!client)
        return;
    if (!client->parent)
        client->transport->ops->free(client->transport);
    free(client);
}

void kube_client_count(struct kube_client *client, const char *method)
{
    struct kube_client *owner = client->parent ? client->parent : client;
    atomic_fetch_add_explicit(strcmp(method, "GET") == 0 ? &owner->reads : &owner->writes, 1,
                              memory_order_relaxed);
}

int64_t kube_client_writes(const struct kube_client *client)
{
    return atomic_load(&(client->parent ? client->parent : client)->writes);
}

int64_t kube_client_reads(const struct kube_client *client)
{
    return atomic_load(&(client->parent ? client->parent : client)->reads);
}

void kube_client_count_unreadable(struct kube_client *client, int64_t count)
{
    struct kube_client *owner = client->parent ? client->parent : client;
    atomic_fetch_add_explicit(&owner->unreadable, count, memory_order_relaxed);
}

int64_t kube_client_unreadable(const struct kube_client *client)
{
    return atomic_load(&(client->parent ? client->parent : client)->unreadable);
}

/* One request with an object as its answer. */
struct call {
    const char *method;
    const char *content_type; /* NULL: no body */
    const cJSON *body;
    bool body_is_yaml; /* the server reads it as YAML */
};

static int body_print(const struct call *call, struct strbuf *out, struct err *err)
{
    if (!call->content_type)
        return 0;
    if (json_print(call->body, out, err) != 0)
        return -1;
    if (!call->body_is_yaml)
        return 0;
    CLEANUP_STRBUF struct strbuf plain = *out;
    strbuf_init(out, plain.cap);
    if (yaml_safe_from_json(plain.buf, plain.len, out) != 0)
        return err_set(err, ERR_TOO_LARGE, "object above %zu bytes", out->cap);
    return 0;
}

static int answer_parse(const struct http_client_response *response, cJSON **ret_object, struct err *err)
{
    if (response->status < 200 || response->status > 299)
        return kube_status_from_answer(response->status, response->retry_after_ms, response->body.buf,
                                       response->body.len, err);
    if (!ret_object)
        return 0;
    cJSON *object;
    if (json_parse(response->body.buf, response->body.len, JSON_DEPTH_MAX, &object, err) != 0)
        return err_wrap(err, "answer of the API server");
    if (!cJSON_IsObject(object)) {
        cJSON_Delete(object);
        return err_set(err, ERR_INTERNAL, "answer of the API server is no object");
    }
    kube_object_strip(object);
    *ret_object = object;
    return 0;
}

static int perform(struct kube_client *client, const struct call *call, const char *path, cJSON **ret_object,
                   struct err *err)
{
    CLEANUP_STRBUF struct strbuf body;
    strbuf_init(&body, OBJECT_MAX_BYTES);
    if (body_print(call, &body, err) != 0)
        return -1;
    struct http_client_request request = {
        .method = call->method,
        .path_and_query = path,
        .content_type = call->content_type,
        .body = call->content_type ? body.buf : NULL,
        .body_len = body.len,
        .timeout_ms = atomic_load(&client->timeout_ms),
        .max_response_bytes = OBJECT_MAX_BYTES,
    };
    CLEANUP(http_client_response_release) struct http_client_response response = {0};
    kube_client_count(client, call->method);
    if (client->transport->ops->request(client->transport, &request, &response, err) != 0)
        return err_wrap(err, "%s %.*s", call->method, (int)strcspn(path, "?"), path);
    return answer_parse(&response, ret_object, err);
}

static int perform_at(struct kube_client *client, const struct call *call, struct kube_path *path,
                      cJSON **ret_object, struct err *err)
{
    if (kube_path_finish(path, err) != 0)
        return -1;
    return perform(client, call, path->text.buf, ret_object, err);
}

#define CLEANUP_PATH CLEANUP(kube_path_release)

int kube_get(struct kube_client *client, const struct kube_resource *resource, const char *namespace,
             const char *name, cJSON **ret_object, struct err *err)
{
    CLEANUP_PATH struct kube_path path;
    kube_path_init(&path);
    if (kube_path_set(&path, resource, namespace, name, /* subresource= */ NULL, err) != 0)
        return -1;
    struct call call = {.method = "GET"};
    return perform_at(client, &call, &path, ret_object, err);
}

int kube_get_path(struct kube_client *client, const char *path, cJSON **ret_tree, struct err *err)
{
    if (path[0] != '/')
        return err_set(err, ERR_INVALID, "\"%.100s\" is no path", path);
    struct call call = {.method = "GET"};
    return perform(client, &call, path, ret_tree, err);
}

int kube_create(struct kube_client *client, const struct kube_resource *resource, const char *namespace,
                const cJSON *object, cJSON **ret_object, struct err *err)
{
    CLEANUP_PATH struct kube_path path;
    kube_path_init(&path);
    if (kube_path_set(&path, resource, namespace, /* name= */ NULL, /* subresource= */ NULL, err) != 0)
        return -1;
    struct call call = {.method = "POST", .content_type = "application/json", .body = object};
    return perform_at(client, &call, &path, ret_object, err);
}

int kube_update(struct kube_client *client, const struct kube_resource *resource, const char *namespace,
                const char *name, const cJSON *object, cJSON **ret_object, struct err *err)
{
    CLEANUP_PATH struct kube_path path;
    kube_path_init(&path);
    if (kube_path_set(&path, resource, namespace, name, /* subresource= */ NULL, err) != 0)
        return -1;
    struct call call = {.method = "PUT", .content_type = "application/json", .body = object};
    return perform_at(client, &call, &path, ret_object, err);
}

static int send_patch(struct kube_client *client, const struct call *call,
                      const struct kube_resource *resource, const char *namespace, const char *name,
                      const char *subresource, const char *field_manager, cJSON **ret_object, struct err *err)
{
    CLEANUP_PATH struct kube_path path;
    kube_path_init(&path);
    if (kube_path_set(&path, resource, namespace, name, subresource, err) != 0)
        return -1;
    kube_path_query(&path, "fieldManager", field_manager);
    kube_path_query(&path, "force", call->body_is_yaml ? "true" : NULL); /* of an apply only */
    return perform_at(client, call, &path, ret_object, err);
}

int kube_apply(struct kube_client *client, const struct kube_resource *resource, const char *namespace,
               const char *name, const char *subresource, const char *field_manager, const cJSON *intent,
               cJSON **ret_object, struct err *err)
{
    struct call call = {.method = "PATCH",
                        .content_type = "application/apply-patch+yaml",
                        .body = intent,
                        .body_is_yaml = true};
    return send_patch(client, &call, resource, namespace, name, subresource, field_manager, ret_object, err);
}

int kube_json_patch(struct kube_client *client, const struct kube_resource *resource, const char *namespace,
                    const char *name, const char *subresource, const char *field_manager, const cJSON *patch,
                    cJSON **ret_object, struct err *err)
{
    struct call call = {.method = "PATCH", .content_type = "application/json-patch+json", .body = patch};
    return send_patch(client, &call, resource, namespace, name, subresource, field_manager, ret_object, err);
}

int kube_merge_patch(struct kube_client *client, const struct kube_resource *resource, const char *namespace,
                     const char *name, const char *subresource, const char *field_manager, const cJSON *patch,
                     cJSON **ret_object, struct err *err)
{
    struct call call = {.method = "PATCH", .content_type = "application/merge-patch+json", .body = patch};
    return send_patch(client, &call, resource, namespace, name, subresource, field_manager, ret_object, err);
}

int kube_scale_get(struct kube_client *client, const struct kube_resource *resource, const char *namespace,
                   const char *name, int *ret_replicas, char **ret_resource_version, struct err *err)
{
    CLEANUP_PATH struct kube_path path;
    kube_path_init(&path);
    if (kube_path_set(&path, resource, namespace, name, "scale", err) != 0)
        return -1;
    CLEANUP_JSON cJSON *scale = NULL;
    struct call call = {.method = "GET"};
    if (perform_at(client, &call, &path, &scale, err) != 0)
        return -1;
    int64_t replicas = json_int64(json_object(scale, "spec"), "replicas", 0);
    if (replicas < 0 || replicas > INT32_MAX)
        return err_set(err, ERR_INTERNAL, "scale: replicas out of range");
    *ret_replicas = (int)replicas;
    if (ret_resource_version)
        *ret_resource_version =
            xstrdup_or_null(json_string(json_object(scale, "metadata"), "resourceVersion"));
    return 0;
}

int kube_delete(struct kube_client *client, const struct kube_resource *resource, const char *namespace,
                const char *name, const char *uid, struct err *err)
{
    CLEANUP_PATH struct kube_path path;
    kube_path_init(&path);
    if (kube_path_set(&path, resource, namespace, name, /* subresource= */ NULL, err) != 0)
        return -1;
    CLEANUP_JSON cJSON *options = cJSON_CreateObject();
    json_add_string(options, "apiVersion", "v1");
    json_add_string(options, "kind", "DeleteOptions");
    json_add_string(options, "propagationPolicy", "Background");
    if (uid)
        json_add_string(json_add_object(options, "preconditions"), "uid", uid);
    struct call call = {.method = "DELETE", .content_type = "application/json", .body = options};
    return perform_at(client, &call, &path, /* ret_object= */ NULL, err);
}
