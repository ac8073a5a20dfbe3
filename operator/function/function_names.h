/* function_names.h - every name that the operator gives or looks for (operator/PROTOCOLS.md), and what it is told about its
 * surroundings.
 *
 * Children have the Function's name. Threads: none of its own; settings do not change after start.
 */
#ifndef CICADA_FUNCTION_FUNCTION_NAMES_H
#define CICADA_FUNCTION_FUNCTION_NAMES_H

#include <stddef.h>

#include "operator/function/function_spec.h"
#include "operator/kube/kube_client.h"

#define LABEL_FUNCTION         "cicada.dev/function"
#define LABEL_MANAGED_BY       "app.kubernetes.io/managed-by"
#define LABEL_MANAGED_BY_VALUE "cicada"

#define ANNOTATION_INTENT        "cicada.dev/intent"
#define ANNOTATION_TEMPLATE      "cicada.dev/template"
#define ANNOTATION_SPEC_TEMPLATE "cicada.dev/spec-template"
#define ANNOTATION_PROVEN        "cicada.dev/proven"

/* Of a Function that has triggers: what they put into its database is removed first. */
#define FINALIZER_TRIGGERS "cicada.dev/triggers"

#define MANAGER_CHILDREN "cicada-operator"
#define MANAGER_STATUS   "cicada-operator-status"

#define CONTAINER_NAME        "function"
#define INGRESS_CLASS_CICADA  "cicada"
#define PORT_FUNCTION         8080
#define PORT_ADMIN            9090
#define PORT_GATEWAY_PUBLIC   8080
#define PORT_GATEWAY_INTERNAL 8081
#define PORT_GATEWAY_ANNOUNCE 9091
#define PORT_GATEWAY_ADMIN    9090

#define DRAIN_MARGIN_SECONDS 5

/* Endpoints of Functions with a foreign Ingress class. */
extern const struct kube_resource function_endpoints_resource;

/* What the operator's options say; borrowed strings. */
struct function_settings {
    const char *system_namespace;
    const char *runtime_image;
    const char *domain; /* NULL: none */
    const char *cluster_domain;
};

char *function_names_selector(const char *name); /* "cicada.dev/function=<name>" */
char *function_names_internal_gateway(const struct function_settings *settings);
char *function_names_announce_address(const struct function_settings *settings); /* with its port */
char *function_names_url(const struct function_spec *spec, const struct function_settings *settings);
/* The Function has hosts that a gateway of somebody else's serves. */
bool function_names_is_foreign_class(const struct function_spec *spec);

#endif
