#include "operator/function/function_names.h"

#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"

const struct kube_resource function_endpoints_resource = {
    .group = "", .version = "v1", .plural = "endpoints", .kind = "Endpoints", .namespaced = true};

char *function_names_selector(const char *name)
{
    return xasprintf(LABEL_FUNCTION "=%s", name);
}

char *function_names_internal_gateway(const struct function_settings *settings)
{
    return xasprintf("cicada-gateway-internal.%s.svc.%s", settings->system_namespace,
                     settings->cluster_domain);
}

char *function_names_announce_address(const struct function_settings *settings)
{
    return xasprintf("cicada-gateway-peers.%s.svc.%s:%d", settings->system_namespace,
                     settings->cluster_domain, PORT_GATEWAY_ANNOUNCE);
}

char *function_names_url(const struct function_spec *spec, const struct function_settings *settings)
{
    const char *path = strcmp(spec->path, "/") == 0 ? "" : spec->path;
    for (size_t i = 0; i < spec->host_count; i++) {
        if (!str_starts_with(spec->hosts[i], "*.")) {
            return xasprintf("http://%s%s", spec->hosts[i], path);
        }
    }
    if (spec->has_http && settings->domain) {
        return xasprintf("http://%s.%s.%s", spec->name, spec->namespace, settings->domain);
    }
    return xasprintf("http://%s.%s.svc", spec->name, spec->namespace);
}

bool function_names_is_foreign_class(const struct function_spec *spec)
{
    return spec->host_count > 0 && strcmp(spec->ingress_class_name, INGRESS_CLASS_CICADA) != 0;
}
