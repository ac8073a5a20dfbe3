#include "operator/function/operator_options.h"

#include <string.h>

#include "operator/function/function_service.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/base/version.h"

#define FIELD(name) .offset = offsetof(struct operator_options, name)

static const struct option_spec specs[] = {
    {.name = "kubeconfig",
     .env = "CICADA_KUBECONFIG",
     .type = OPTION_STRING,
     FIELD(kubeconfig),
     .help = "Kubeconfig file; default is the pod's service account, then $KUBECONFIG."},
    {.name = "namespace",
     .env = "POD_NAMESPACE",
     .type = OPTION_STRING,
     FIELD(namespace),
     .help = "Namespace of operator and gateways; default is the pod's, or the kubeconfig's."},
    {.name = "watch-namespaces",
     .env = "CICADA_WATCH_NAMESPACES",
     .type = OPTION_STRING,
     FIELD(watch_namespaces),
     .help = "Namespaces whose Functions are run, separated by commas; default is all."},
    {.name = "runtime-image",
     .env = "CICADA_RUNTIME_IMAGE",
     .type = OPTION_STRING,
     FIELD(runtime_image),
     .default_text = "cicada-runtime:" CICADA_VERSION,
     .help = "Image of Functions that name none."},
    {.name = "domain",
     .env = "CICADA_DOMAIN",
     .type = OPTION_STRING,
     FIELD(domain),
     .help = "Functions are reached as <name>.<namespace>.<domain>; default is no such names."},
    {.name = "cluster-domain",
     .env = "CICADA_CLUSTER_DOMAIN",
     .type = OPTION_STRING,
     FIELD(cluster_domain),
     .default_text = "cluster.local",
     .help = "Domain of the cluster's DNS."},
    {.name = "publish-addresses",
     .env = "CICADA_PUBLISH_ADDRESSES",
     .type = OPTION_STRING,
     FIELD(publish_addresses),
     .help = "Addresses that Ingresses of class cicada show, separated by commas; default is those of the "
             "gateways' Service."},
    {.name = "gateway-service",
     .env = "CICADA_GATEWAY_SERVICE",
     .type = OPTION_STRING,
     FIELD(gateway_service),
     .default_text = "cicada-gateway",
     .help = "The gateways' Service for requests from outside."},
    {.name = "admin-listen",
     .env = "CICADA_ADMIN_LISTEN",
     .type = OPTION_STRING,
     FIELD(admin_listen),
     .default_text = "0.0.0.0:9090",
     .help = "Address of /livez, /readyz and /metrics."},
    {.name = "workers",
     .env = "CICADA_WORKERS",
     .type = OPTION_INT64,
     FIELD(workers),
     .default_text = "2",
     .min = 1,
     .max = 64,
     .help = "Functions that are worked on at once."},
    {.name = "identity",
     .env = "POD_NAME",
     .type = OPTION_STRING,
     FIELD(identity),
     .help = "Who this operator is in the Lease; default is the host's name and a random part."},
    {.name = "lease-name",
     .env = "CICADA_LEASE_NAME",
     .type = OPTION_STRING,
     FIELD(lease_name),
     .default_text = "cicada-operator",
     .help = "The Lease by which one operator of several leads."},
    {.name = "log-level",
     .env = "CICADA_LOG_LEVEL",
     .type = OPTION_STRING,
     FIELD(log_level),
     .default_text = "info",
     .help = "debug, info, warn or error."},
};

const struct option_table operator_option_table = {
    .program = "cicada-operator",
    .summary =
        "Keeps a Deployment, a Service and an Ingress for every Function, and scales it, down to zero.",
    .specs = specs,
    .spec_count = ARRAY_SIZE(specs),
};

char **operator_options_split(const char *text, size_t *ret_count)
{
    char **parts = xcalloc(1, sizeof *parts);
    size_t count = 0;
    while (text && *text) {
        size_t len = strcspn(text, ",");
        if (len > 0) {
            parts = xreallocarray(parts, count + 2, sizeof *parts);
            parts[count++] = xstrndup(text, len);
            parts[count] = NULL;
        }
        text += len + (text[len] == ',' ? 1 : 0);
    }
    *ret_count = count;
    return parts;
}

static bool is_host_or_ip(const char *text)
{
    return is_dns_subdomain(text) || function_service_is_ip(text);
}

static int check_each(const char *option, char *const *parts, bool (*is_fine)(const char *text),
                      const char *what, struct err *err)
{
    for (size_t i = 0; parts[i]; i++) {
        if (!is_fine(parts[i])) {
            return err_set(err, ERR_INVALID, "--%s: \"%.100s\" is no %s", option, parts[i], what);
        }
    }
    return 0;
}

int operator_options_check(const struct operator_options *options, char *const *namespaces,
                           char *const *addresses, struct err *err)
{
    char *const domains[] = {options->cluster_domain, options->domain, NULL}; /* the second may be NULL */
    if (check_each("watch-namespaces", namespaces, is_dns_label, "namespace", err) ||
        check_each("publish-addresses", addresses, is_host_or_ip, "address or host name", err) ||
        check_each("cluster-domain or --domain", domains, is_dns_subdomain, "DNS name", err)) {
        return -1;
    }
    return 0;
}
