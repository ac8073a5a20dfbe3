/* function_service.h - how a Function is found: its Service, its Ingress, and Endpoints for a foreign Ingress class. Pure.
 *
 * The Service is an ExternalName of the gateway's internal Service: http://<name>.<namespace> reaches the gateway, which knows the pods. A
 * foreign Ingress controller needs endpoints, so for one the Service is selector-less, with Endpoints of the gateway's pods: port
 * "http" is the internal listener, port "public" the public one, which alone the Ingress names. Threads: none of its own.
 */
#ifndef CICADA_FUNCTION_FUNCTION_SERVICE_H
#define CICADA_FUNCTION_FUNCTION_SERVICE_H

#include "operator/function/function_intent.h"

/* Sealed intents; the caller frees. */
cJSON *function_service_build(const struct function_spec *spec, const struct function_settings *settings);
/* ips: of gateway pods that serve, at least one. */
cJSON *function_service_build_endpoints(const struct function_spec *spec, const char *const *ips,
                                        size_t ip_count);
/* skip: for each host, whether it is left out (it belongs to somebody else); NULL: none. NULL if no host is left. */
cJSON *function_service_build_ingress(const struct function_spec *spec, const bool *skip);
/* status.loadBalancer of an Ingress of class `cicada`, to be applied to /status. */
cJSON *function_service_build_ingress_status(const struct function_spec *spec, const char *const *addresses,
                                             size_t address_count);
bool function_service_is_ip(const char *text);
/* Hash of the list of addresses, in the order given. */
void function_service_hash_addresses(const char *const *addresses, size_t count, char out[INTENT_HASH_SIZE]);

#endif
