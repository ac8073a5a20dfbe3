{{/* Names inside the system namespace are fixed: the programs rely on them (operator/PROTOCOLS.md). */}}

{{/* Cluster-scoped objects carry the namespace, so that two releases with `namespaces` do not collide. */}}
{{- define "cicada.clusterName" -}}
{{- printf "%s:cicada-%s" .root.Release.Namespace .component -}}
{{- end -}}

{{/* The immutable part of the labels. */}}
{{- define "cicada.selectorLabels" -}}
app.kubernetes.io/name: cicada
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "cicada.labels" -}}
{{ include "cicada.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* repository[:tag][@digest] of .image. */}}
{{- define "cicada.image" -}}
{{- if .image.digest -}}
{{- printf "%s%s@%s" .image.repository (empty .image.tag | ternary "" (printf ":%s" .image.tag)) .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "cicada.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "cicada.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Environment of both programs: who they are. .env: the user's. */}}
{{- define "cicada.env" -}}
- name: POD_NAME
  valueFrom:
    fieldRef: {fieldPath: metadata.name}
- name: POD_NAMESPACE
  valueFrom:
    fieldRef: {fieldPath: metadata.namespace}
{{- with .env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Where the pods of a program may run. .settings: .Values.operator or .Values.gateway. */}}
{{- define "cicada.scheduling" -}}
affinity:
{{- if .settings.affinity }}
  {{- toYaml .settings.affinity | nindent 2 }}
{{- else }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "cicada.selectorLabels" . | nindent 12 }}
{{- end }}
{{- with .settings.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .settings.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .settings.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .settings.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Both programs answer on their admin port, apart from what they serve. */}}
{{- define "cicada.probes" -}}
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 2
  timeoutSeconds: 2
livenessProbe:
  httpGet: {path: /livez, port: admin}
  initialDelaySeconds: 10
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
{{- end -}}
