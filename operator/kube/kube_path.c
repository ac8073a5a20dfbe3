#include "operator/kube/kube_path.h"

#include "runtime/base/text.h"

void kube_path_init(struct kube_path *path)
{
    strbuf_init(&path->text, KUBE_PATH_MAX_BYTES);
    path->has_query = false;
}

void kube_path_release(struct kube_path *path)
{
    strbuf_release(&path->text);
}

static int check_names(const struct kube_resource *resource, const char *namespace, const char *name,
                       struct err *err)
{
    if (namespace && !is_dns_label(namespace))
        return err_set(err, ERR_INVALID, "\"%.80s\" is no namespace name", namespace);
    if (name && !is_dns_subdomain(name))
        return err_set(err, ERR_INVALID, "\"%.300s\" is no object name", name);
    if (namespace && !resource->namespaced)
        return err_set(err, ERR_INVALID, "%s have no namespace", resource->plural);
    if (name && !namespace && resource->namespaced)
        return err_set(err, ERR_INVALID, "%s need a namespace", resource->plural);
    return 0;
}

int kube_path_set(struct kube_path *path, const struct kube_resource *resource, const char *namespace,
                  const char *name, const char *subresource, struct err *err)
{
    if (check_names(resource, namespace, name, err) != 0)
        return -1;
    struct strbuf *text = &path->text;
    strbuf_clear(text);
    path->has_query = false;
    if (resource->group[0])
        strbuf_appendf(text, "/apis/%s/%s", resource->group, resource->version);
    else
        strbuf_appendf(text, "/api/%s", resource->version);
    if (namespace)
        strbuf_appendf(text, "/namespaces/%s", namespace);
    strbuf_appendf(text, "/%s", resource->plural);
    if (name)
        strbuf_appendf(text, "/%s", name);
    if (subresource)
        strbuf_appendf(text, "/%s", subresource);
    return 0;
}

void kube_path_query(struct kube_path *path, const char *key, const char *value)
{
    if (!value)
        return;
    strbuf_appendf(&path->text, "%c%s=", path->has_query ? '&' : '?', key);
    strbuf_append_percent_encoded(&path->text, value);
    path->has_query = true;
}

int kube_path_finish(const struct kube_path *path, struct err *err)
{
    if (strbuf_failed(&path->text))
        return err_set(err, ERR_TOO_LARGE, "request path above %u bytes", KUBE_PATH_MAX_BYTES);
    return 0;
}
