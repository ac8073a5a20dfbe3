#include "operator/kube/kube_client.h"

const struct kube_resource kube_functions = {"cicada.dev", "v1alpha1", "functions", "Function", true};
const struct kube_resource kube_deployments = {"apps", "v1", "deployments", "Deployment", true};
const struct kube_resource kube_pods = {"", "v1", "pods", "Pod", true};
const struct kube_resource kube_services = {"", "v1", "services", "Service", true};
const struct kube_resource kube_nodes = {"", "v1", "nodes", "Node", false};
const struct kube_resource kube_ingresses = {"networking.k8s.io", "v1", "ingresses", "Ingress", true};
const struct kube_resource kube_leases = {"coordination.k8s.io", "v1", "leases", "Lease", true};
const struct kube_resource kube_events = {"", "v1", "events", "Event", true};
const struct kube_resource kube_secrets = {"", "v1", "secrets", "Secret", true};
const struct kube_resource kube_namespaces = {"", "v1", "namespaces", "Namespace", false};
