#include "operator/function/function_service.h"

#include <arpa/inet.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"

#define PORT_SERVICE 80

static void add_service_port(cJSON *ports, const char *name, int port, int target)
{
    cJSON *item = json_append_object(ports);
    json_add_string(item, "name", name);
    json_add_int64(item, "port", port);
    json_add_string(item, "protocol", "TCP");
    json_add_int64(item, "targetPort", target);
}

cJSON *function_service_build(const struct function_spec *spec, const struct function_settings *settings)
{
    cJSON *intent = function_intent_new(spec, &kube_services);
    cJSON *service = json_add_object(intent, "spec");
    if (function_names_is_foreign_class(spec)) {
        json_add_string(service, "type", "ClusterIP");
        cJSON *ports = json_add_array(service, "ports");
        add_service_port(ports, "http", PORT_SERVICE, PORT_GATEWAY_INTERNAL);
        add_service_port(ports, "public", PORT_GATEWAY_PUBLIC, PORT_GATEWAY_PUBLIC);
    } else {
        CLEANUP_FREE char *gateway = function_names_internal_gateway(settings);
        json_add_string(service, "type", "ExternalName");
        json_add_string(service, "externalName", gateway);
        add_service_port(json_add_array(service, "ports"), "http", PORT_SERVICE, PORT_SERVICE);
    }
    function_intent_seal(intent);
    return intent;
}

static void add_endpoint_port(cJSON *ports, const char *name, int number)
{
    cJSON *port = json_append_object(ports);
    json_add_string(port, "name", name);
    json_add_int64(port, "port", number);
    json_add_string(port, "protocol", "TCP");
}

cJSON *function_service_build_endpoints(const struct function_spec *spec, const char *const *ips,
                                        size_t ip_count)
{
    cJSON *intent = function_intent_new(spec, &function_endpoints_resource);
    cJSON *subset = json_append_object(json_add_array(intent, "subsets"));
    cJSON *addresses = json_add_array(subset, "addresses");
    for (size_t i = 0; i < ip_count; i++) {
        json_add_string(json_append_object(addresses), "ip", ips[i]);
    }
    cJSON *ports = json_add_array(subset, "ports");
    add_endpoint_port(ports, "http", PORT_GATEWAY_INTERNAL);
    add_endpoint_port(ports, "public", PORT_GATEWAY_PUBLIC);
    function_intent_seal(intent);
    return intent;
}

/* For the hosts that have a rule: what is somebody else's gets no certificate of ours. */
static void add_tls(cJSON *ingress, const cJSON *rules, const char *secret)
{
    cJSON *tls = json_append_object(json_add_array(ingress, "tls"));
    cJSON *hosts = json_add_array(tls, "hosts");
    const cJSON *rule;
    cJSON_ArrayForEach(rule, rules)
    {
        json_append_string(hosts, json_string(rule, "host"));
    }
    json_add_string(tls, "secretName", secret);
}

cJSON *function_service_build_ingress(const struct function_spec *spec, const bool *skip)
{
    cJSON *intent = function_intent_new(spec, &kube_ingresses);
    cJSON *ingress = json_add_object(intent, "spec");
    json_add_string(ingress, "ingressClassName", spec->ingress_class_name);
    cJSON *rules = json_add_array(ingress, "rules");
    for (size_t i = 0; i < spec->host_count; i++) {
        if (skip && skip[i]) {
            continue;
        }
        cJSON *rule = json_append_object(rules);
        json_add_string(rule, "host", spec->hosts[i]);
        cJSON *path = json_append_object(json_add_array(json_add_object(rule, "http"), "paths"));
        json_add_string(path, "path", spec->path);
        json_add_string(path, "pathType", "Prefix");
        cJSON *service = json_add_object(json_add_object(path, "backend"), "service");
        json_add_string(service, "name", spec->name);
        json_add_string(json_add_object(service, "port"), "name",
                        function_names_is_foreign_class(spec) ? "public" : "http");
    }
    if (cJSON_GetArraySize(rules) == 0) {
        cJSON_Delete(intent);
        return NULL;
    }
    if (spec->tls_secret_name) {
        add_tls(ingress, rules, spec->tls_secret_name);
    }
    function_intent_seal(intent);
    return intent;
}

bool function_service_is_ip(const char *text)
{
    unsigned char storage[16];
    return inet_pton(AF_INET, text, storage) == 1 || inet_pton(AF_INET6, text, storage) == 1;
}

cJSON *function_service_build_ingress_status(const struct function_spec *spec, const char *const *addresses,
                                             size_t address_count)
{
    cJSON *tree = cJSON_CreateObject();
    json_add_string(tree, "apiVersion", "networking.k8s.io/v1");
    json_add_string(tree, "kind", "Ingress");
    cJSON *metadata = json_add_object(tree, "metadata");
    json_add_string(metadata, "name", spec->name);
    json_add_string(metadata, "namespace", spec->namespace);
    cJSON *list = json_add_array(json_add_object(json_add_object(tree, "status"), "loadBalancer"), "ingress");
    for (size_t i = 0; i < address_count; i++) {
        json_add_string(json_append_object(list), function_service_is_ip(addresses[i]) ? "ip" : "hostname",
                        addresses[i]);
    }
    return tree;
}

void function_service_hash_addresses(const char *const *addresses, size_t count, char out[INTENT_HASH_SIZE])
{
    CLEANUP_JSON cJSON *list = cJSON_CreateArray();
    for (size_t i = 0; i < count; i++) {
        json_append_string(list, addresses[i]);
    }
    function_intent_hash(list, out);
}
