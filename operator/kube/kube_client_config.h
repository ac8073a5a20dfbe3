/* kube_client_config.h - where the API server is and how to be believed by it. Inside kube/ only; others see it through
 * kube_client.h.
 *
 * Threads: immutable once loaded.
 */
#ifndef CICADA_KUBE_KUBE_CLIENT_CONFIG_H
#define CICADA_KUBE_KUBE_CLIENT_CONFIG_H

#include "operator/kube/kube_client.h"

#define KUBE_CONFIG_FILE_MAX_BYTES (1u << 20)
#define KUBE_SERVICE_ACCOUNT_DIR   "/var/run/secrets/kubernetes.io/serviceaccount"

struct kube_client_config {
    char *server;  /* "https://host:port", a path may follow; no final slash */
    char *ca_file; /* or ca_pem; both NULL: the system's */
    char *ca_pem;
    char *client_cert_pem; /* with client_key_pem, or both NULL */
    char *client_key_pem;
    char *token;      /* fixed, or NULL */
    char *token_file; /* re-read as it rotates; NULL: none */
    char *namespace;
};

/* host, port: of the API server's Service, from the pod's environment. */
int kube_client_config_from_service_account(const char *directory, const char *host, const char *port,
                                            struct kube_client_config **ret_config,
                                            struct err *err) MUST_CHECK;
int kube_client_config_from_kubeconfig(const char *path, struct kube_client_config **ret_config,
                                       struct err *err) MUST_CHECK;

static inline void kube_client_config_free_p(struct kube_client_config **config)
{
    kube_client_config_free(*config);
}

#endif
