/* kube_kubeconfig.c - the current context of a kubeconfig file as a kube_client_config. What we cannot do as asked (plug-ins that
 * fetch credentials, unverified TLS, proxies) is refused by name, never skipped. */
#include "operator/kube/kube_client_config.h"
#include "runtime/base/base64.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/base/yaml.h"

/* kubectl writes null for "nothing", yaml.h gives it as an empty value: json_object() and friends treat both as absent. */
static const cJSON *entry_by_name(const cJSON *config, const char *list_name, const char *kind,
                                  const char *name, struct err *err)
{
    const cJSON *entry;
    cJSON_ArrayForEach(entry, json_array(config, list_name))
    {
        const char *entry_name = json_string(entry, "name");
        if (entry_name && strcmp(entry_name, name) == 0 && json_object(entry, kind))
            return json_object(entry, kind);
    }
    err_set(err, ERR_INVALID, "no %s \"%.100s\"", kind, name);
    return NULL;
}

/* File names are relative to the folder of the kubeconfig. */
static char *resolve(const char *kubeconfig_path, const char *file)
{
    const char *slash = strrchr(kubeconfig_path, '/');
    if (file[0] == '/' || !slash)
        return xstrdup(file);
    return xasprintf("%.*s/%s", (int)(slash - kubeconfig_path), kubeconfig_path, file);
}

/* PEM text from "<name>-data" (base64) or the file of "<name>"; *ret_pem stays NULL if there is neither. */
static int pem_load(const char *kubeconfig_path, const cJSON *entry, const char *name, char **ret_pem,
                    struct err *err)
{
    CLEANUP_FREE char *data_name = xasprintf("%s-data", name);
    const char *data = json_string(entry, data_name);
    const char *file = json_string(entry, name);
    if (data && data[0]) {
        if (base64_decode_text(data, ret_pem, err) != 0)
            return err_wrap(err, "%s", data_name);
    } else if (file && file[0]) {
        CLEANUP_FREE char *path = resolve(kubeconfig_path, file);
        if (file_read(path, KUBE_CONFIG_FILE_MAX_BYTES, ret_pem, NULL, err) != 0)
            return err_wrap(err, "%s", name);
    }
    return 0;
}

static int refuse(const cJSON *entry, const char *const *names, struct err *err)
{
    for (size_t i = 0; names[i]; i++) {
        const cJSON *value = json_get(entry, names[i]);
        bool is_empty = !value || cJSON_IsNull(value) || cJSON_IsFalse(value) ||
                        (cJSON_IsString(value) && value->valuestring[0] == '\0');
        if (!is_empty)
            return err_set(err, ERR_INVALID, "%s is not supported", names[i]);
    }
    return 0;
}

static int load_cluster(const char *path, const cJSON *cluster, struct kube_client_config *config,
                        struct err *err)
{
    static const char *const unsupported[] = {"insecure-skip-tls-verify", "proxy-url", "tls-server-name",
                                              NULL};
    if (refuse(cluster, unsupported, err) != 0)
        return -1;
    const char *server = json_string(cluster, "server");
    if (!server || (!str_starts_with(server, "https://") && !str_starts_with(server, "http://")))
        return err_set(err, ERR_INVALID, "server must begin with https:// or http://");
    config->server = xstrdup(server);
    size_t len = strlen(config->server);
    while (len > 0 && config->server[len - 1] == '/')
        config->server[--len] = '\0';
    return pem_load(path, cluster, "certificate-authority", &config->ca_pem, err);
}

static int load_user(const char *path, const cJSON *user, struct kube_client_config *config, struct err *err)
{
    static const char *const unsupported[] = {"exec",   "auth-provider", "username",      "password", "as",
                                              "as-uid", "as-groups",     "as-user-extra", NULL};
    if (refuse(user, unsupported, err) != 0)
        return -1;
    if (pem_load(path, user, "client-certificate", &config->client_cert_pem, err) != 0 ||
        pem_load(path, user, "client-key", &config->client_key_pem, err) != 0)
        return -1;
    if (!config->client_cert_pem != !config->client_key_pem)
        return err_set(err, ERR_INVALID, "client-certificate and client-key come only together");
    const char *token_file = json_string(user, "tokenFile");
    const char *token = json_string(user, "token");
    if (token_file && token_file[0])
        config->token_file = resolve(path, token_file);
    else if (token && token[0])
        config->token = xstrdup(token);
    return 0;
}

static int load_context(const char *path, const cJSON *tree, struct kube_client_config *config,
                        struct err *err)
{
    const char *name = json_string(tree, "current-context");
    if (!name || !name[0])
        return err_set(err, ERR_INVALID, "current-context is not set");
    const cJSON *context = entry_by_name(tree, "contexts", "context", name, err);
    if (!context)
        return -1;
    const char *cluster_name = json_string(context, "cluster");
    const char *user_name = json_string(context, "user");
    const char *namespace = json_string(context, "namespace");
    const cJSON *cluster = entry_by_name(tree, "clusters", "cluster", cluster_name ? cluster_name : "", err);
    if (!cluster)
        return -1;
    if (load_cluster(path, cluster, config, err) != 0)
        return err_wrap(err, "cluster \"%.100s\"", cluster_name);
    config->namespace = xstrdup(namespace && namespace[0] ? namespace : "default");
    if (!is_dns_label(config->namespace))
        return err_set(err, ERR_INVALID, "context \"%.100s\": malformed namespace", name);
    if (!user_name || !user_name[0])
        return 0;
    const cJSON *user = entry_by_name(tree, "users", "user", user_name, err);
    if (!user)
        return -1;
    if (load_user(path, user, config, err) != 0)
        return err_wrap(err, "user \"%.100s\"", user_name);
    return 0;
}

int kube_client_config_from_kubeconfig(const char *path, struct kube_client_config **ret_config,
                                       struct err *err)
{
    CLEANUP_FREE char *text = NULL;
    size_t len;
    if (file_read(path, KUBE_CONFIG_FILE_MAX_BYTES, &text, &len, err) != 0)
        return err_wrap(err, "kubeconfig");
    CLEANUP_JSON cJSON *tree = NULL;
    CLEANUP(kube_client_config_free_p) struct kube_client_config *config = xcalloc(1, sizeof(*config));
    if (yaml_document_parse(text, len, &tree, err) != 0 || load_context(path, tree, config, err) != 0)
        return err_wrap(err, "%s", path);
    *ret_config = steal_ptr(&config);
    return 0;
}
