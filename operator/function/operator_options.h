/* operator_options.h - flags and environment of cicada-operator. Threads: none of its own. */
#ifndef CICADA_FUNCTION_OPERATOR_OPTIONS_H
#define CICADA_FUNCTION_OPERATOR_OPTIONS_H

#include "runtime/base/err.h"
#include "runtime/base/options.h"

struct operator_options {
    char *kubeconfig, *namespace, *watch_namespaces, *identity, *lease_name;
    char *runtime_image, *domain, *cluster_domain, *publish_addresses, *gateway_service;
    char *admin_listen, *log_level;
    int64_t workers;
};

extern const struct option_table operator_option_table;

/* A list separated by commas, without empty parts. NULL-terminated; both the array and its strings are the caller's. */
char **operator_options_split(const char *text, size_t *ret_count);
/* What goes into objects is checked at the start: later the API server would refuse it, and the Functions were blamed. namespaces and
 * addresses: the lists in the options, as operator_options_split() gives them. */
int operator_options_check(const struct operator_options *options, char *const *namespaces,
                           char *const *addresses, struct err *err) MUST_CHECK;

#endif
