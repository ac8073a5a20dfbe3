{{/* What each program may do where Functions live; the Roles of rbac.yaml bind these cluster-wide or per namespace. */}}

{{- define "cicada.operatorRules" -}}
# Functions are what it acts on. patch: the finalizer of those with triggers, which keeps one until its triggers are out of its
# database; it changes nothing else of them. A right to write metadata.finalizers alone does not exist.
- apiGroups: [cicada.dev]
  resources: [functions]
  verbs: [list, watch, patch]
# Conditions, URL and replicas of each, by server-side apply.
- apiGroups: [cicada.dev]
  resources: [functions/status]
  verbs: [patch]
# To own children with blockOwnerDeletion, where the API server enforces that right.
- apiGroups: [cicada.dev]
  resources: [functions/finalizers]
  verbs: [update]
# The Deployment and the Service of each Function, by server-side apply (a patch that may create). get finds one of that name
# that somebody else made, which is left alone. Kubernetes deletes them with their owner.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch]
# Replicas are set here alone, so that an apply never resets them.
- apiGroups: [apps]
  resources: [deployments/scale]
  verbs: [patch]
# Addresses of the gateways behind the Service of a Function that is served through another ingress controller; deleted when it no
# longer is.
- apiGroups: [""]
  resources: [endpoints]
  verbs: [get, list, watch, create, patch, delete]
# The Ingress of each Function with hosts, deleted with the last host; the address of those of class cicada. get as above.
- apiGroups: [networking.k8s.io]
  resources: [ingresses]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [ingresses/status]
  verbs: [patch]
# Why a function can't start, and whether a generation has proven itself.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# The reasons in status, as Events of the Function; patch counts repetitions.
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
# The URLs of the databases of Functions with triggers: queues are watched, schedules ticked and triggers installed there. Those of the others
# tell whether they use the same server, whose connections are counted. Each by the name that the Function gives; no list, no watch.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
# Whether a deleted Function goes with its whole namespace, which must not wait for a database.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get]
{{- end -}}

{{- define "cicada.gatewayRules" -}}
# Routes, limits and time-outs.
- apiGroups: [cicada.dev]
  resources: [functions]
  verbs: [list, watch]
# Addresses of function pods, and why one can't start.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# Why a Deployment makes no pods (quota, admission).
- apiGroups: [apps]
  resources: [deployments]
  verbs: [list, watch]
# From zero to one, when a request comes; get tells after a refused patch whether somebody else did it.
- apiGroups: [apps]
  resources: [deployments/scale]
  verbs: [get, patch]
{{- if .Values.gateway.tls.enabled }}
# The certificates that Functions name in http.tlsSecretName, each by its name; no list, no watch.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
# What is wrong with such a Secret, as Events of the Functions that name it: their owners can't read the gateway's log, and the operator,
# which tells them all else, reads no certificates. patch counts repetitions.
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- end }}
{{- end -}}
