#include "operator/kube/kube_client_config.h"

#include <unistd.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"

void kube_client_config_free(struct kube_client_config *config)
{
    if (!config)
        return;
    free(config->server);
    free(config->ca_file);
    free(config->ca_pem);
    free(config->client_cert_pem);
    if (config->client_key_pem)
        explicit_bzero(config->client_key_pem, strlen(config->client_key_pem));
    free(config->client_key_pem);
    if (config->token)
        explicit_bzero(config->token, strlen(config->token));
    free(config->token);
    free(config->token_file);
    free(config->namespace);
    free(config);
}

const char *kube_client_config_namespace(const struct kube_client_config *config)
{
    return config->namespace;
}

static void cut_white_space_at_end(char *text)
{
    size_t len = strlen(text);
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r' || text[len - 1] == ' '))
        text[--len] = '\0';
}

static int namespace_read(const char *directory, char **ret_namespace, struct err *err)
{
    CLEANUP_FREE char *path = xasprintf("%s/namespace", directory);
    CLEANUP_FREE char *text = NULL;
    if (file_read(path, /* max_bytes= */ 4096, &text, NULL, err) != 0)
        return -1;
    cut_white_space_at_end(text);
    if (!is_dns_label(text))
        return err_set(err, ERR_INVALID, "%s holds no namespace name", path);
    *ret_namespace = steal_ptr(&text);
    return 0;
}

int kube_client_config_from_service_account(const char *directory, const char *host, const char *port,
                                            struct kube_client_config **ret_config, struct err *err)
{
    int64_t number;
    if (!host || !host[0] || !port || !parse_int64(port, 1, 65535, &number))
        return err_set(err, ERR_INVALID,
                       "KUBERNETES_SERVICE_HOST or KUBERNETES_SERVICE_PORT is missing or malformed");
    CLEANUP(kube_client_config_free_p) struct kube_client_config *config = xcalloc(1, sizeof(*config));
    bool is_ipv6 = strchr(host, ':') != NULL;
    config->server = xasprintf(is_ipv6 ? "https://[%s]:%d" : "https://%s:%d", host, (int)number);
    config->ca_file = xasprintf("%s/ca.crt", directory);
    config->token_file = xasprintf("%s/token", directory);
    if (namespace_read(directory, &config->namespace, err) != 0)
        return -1;
    *ret_config = steal_ptr(&config);
    return 0;
}

int kube_client_config_load(const char *kubeconfig_path, struct kube_client_config **ret_config,
                            struct err *err)
{
    if (kubeconfig_path && kubeconfig_path[0])
        return kube_client_config_from_kubeconfig(kubeconfig_path, ret_config, err);
    if (access(KUBE_SERVICE_ACCOUNT_DIR "/token", R_OK) == 0)
        return kube_client_config_from_service_account(KUBE_SERVICE_ACCOUNT_DIR,
                                                       getenv("KUBERNETES_SERVICE_HOST"),
                                                       getenv("KUBERNETES_SERVICE_PORT"), ret_config, err);
    const char *path = getenv("KUBECONFIG");
    if (path && path[0])
        return kube_client_config_from_kubeconfig(path, ret_config, err);
    return err_set(err, ERR_NOT_FOUND,
                   "no service account in " KUBE_SERVICE_ACCOUNT_DIR ", and KUBECONFIG is not set");
}
