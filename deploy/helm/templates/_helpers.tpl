{{- define "agent-lifecycle.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects the pods of a component, for ever: it cannot be changed in a Deployment. */}}
{{- define "agent-lifecycle.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "agent-lifecycle.labels" -}}
{{ include "agent-lifecycle.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "agent-lifecycle.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "agent-lifecycle.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "agent-lifecycle.fullname" .) "default") -}}
{{- end -}}

{{/* Where pods of the cluster reach the service. */}}
{{- define "agent-lifecycle.url" -}}
http://{{ include "agent-lifecycle.fullname" . }}.{{ .Release.Namespace }}.svc:{{ .Values.service.port }}
{{- end -}}

{{/* Whole numbers of YAML are floats here, and print as 2.592e+06. */}}
{{- define "agent-lifecycle.text" -}}
{{- if kindIs "float64" . -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- end -}}

{{- define "agent-lifecycle.claim" -}}
{{- .Values.database.sqlite.existingClaim | default (include "agent-lifecycle.fullname" .) -}}
{{- end -}}

{{- define "agent-lifecycle.livekitPort" -}}
{{- $url := urlParse (.Values.config.LIVEKIT_URL | default "") -}}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" -}}
{{- $port | default (has $url.scheme (list "ws" "http") | ternary "80" "443") -}}
{{- end -}}

{{/* The nodes of containers that need no rights. */}}
{{- define "agent-lifecycle.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* The user of the image, and of our workers'. */}}
{{- define "agent-lifecycle.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* The settings of config, and those from Secrets. */}}
{{- define "agent-lifecycle.env" -}}
{{- range $name, $value := .Values.config }}
{{- if not (kindIs "invalid" $value) }}
- {name: {{ $name }}, value: {{ include "agent-lifecycle.text" $value | quote }}}
{{- end }}
{{- end }}
{{- range $name, $from := .Values.secret.settings }}
{{- if not (kindIs "invalid" $from) }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef: {name: {{ $from.name | default $.Values.secret.existingSecret }}, key: {{ $from.key | default $name }}}
{{- end }}
{{- end }}
{{- if eq .Values.database.kind "sqlite" }}
- {name: DATABASE_URL, value: /var/lib/agent-lifecycle/lifecycle.db}
{{- else if .Values.trialPostgres.enabled }}
- name: TRIAL_POSTGRES_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ .Values.trialPostgres.existingSecret }}, key: {{ .Values.trialPostgres.key }}}
# Kubernetes puts the variable above in.
- {name: DATABASE_URL, value: "postgresql://lifecycle:$(TRIAL_POSTGRES_PASSWORD)@{{ include "agent-lifecycle.fullname" . }}-postgres/lifecycle"}
{{- else }}
- name: DATABASE_URL
  valueFrom:
    secretKeyRef: {name: {{ .Values.database.postgres.existingSecret | default .Values.secret.existingSecret }}, key: {{ .Values.database.postgres.key }}}
{{- end }}
- {name: PORT, value: "8080"}
{{- if .Values.agents }}
- {name: AGENTS_FILE, value: /etc/agent-lifecycle/agents.toml}
{{- end }}
{{- end -}}

{{/* All that is missing or contradicts itself, at once; empty where nothing does. */}}
{{- define "agent-lifecycle.problems" -}}
{{- if not .Values.image.repository }}
image.repository is required: no image is published, build one from the Dockerfile
{{- end }}
{{- if not .Values.secret.existingSecret }}
secret.existingSecret is required: the name of a Secret with {{ keys .Values.secret.settings | sortAlpha | join ", " }}
{{- end }}
{{- range $name := list "LIVEKIT_URL" "AGENT_NAME" }}
{{- if not (index $.Values.config $name) }}
config.{{ $name }} is required
{{- end }}
{{- end }}
{{- range $name := list "LIVEKIT_API_KEY" "LIVEKIT_API_SECRET" }}
{{- if kindIs "invalid" (index $.Values.secret.settings $name) }}
secret.settings.{{ $name }} is required
{{- end }}
{{- end }}
{{- if eq .Values.database.kind "sqlite" }}
{{- if gt (int .Values.replicaCount) 1 }}
replicaCount must be 1 with database.kind sqlite: one process for each file. Several replicas need postgres
{{- end }}
{{- if .Values.trialPostgres.enabled }}
trialPostgres.enabled needs database.kind postgres
{{- end }}
{{- else if .Values.trialPostgres.enabled }}
{{- if not .Values.trialPostgres.existingSecret }}
trialPostgres.existingSecret is required: the name of a Secret with the password
{{- end }}
{{- if .Values.database.postgres.existingSecret }}
database.postgres.existingSecret and trialPostgres.enabled exclude each other
{{- end }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) }}
ingress.host is required with ingress.enabled
{{- end }}
{{- if and .Values.serviceMonitor.enabled (has (index .Values.config "METRICS_PUBLIC" | toString | lower) (list "false" "0" "no" "off")) }}
{{- if not (and .Values.serviceMonitor.apiKey.existingSecret .Values.serviceMonitor.apiKey.key) }}
serviceMonitor.apiKey.existingSecret and .key are required while config.METRICS_PUBLIC is false
{{- end }}
{{- end }}
{{- $agents := list }}
{{- range splitList "," (index .Values.config "AGENT_NAME" | default "" | toString) }}
{{- $agents = append $agents (trim .) }}
{{- end }}
{{- $autoscaled := dict }}
{{- range $name, $given := .Values.workers }}
{{- $worker := mergeOverwrite (deepCopy $.Values.workerDefaults) (deepCopy $given) }}
{{- if not $worker.image }}
workers.{{ $name }}.image is required
{{- end }}
{{- $agent := $worker.agentName | default $name }}
{{- if not (has $agent $agents) }}
workers.{{ $name }} serves {{ $agent | quote }}, which is not one of config.AGENT_NAME: give agentName
{{- end }}
{{- if and $worker.autoscaling.enabled (hasKey $autoscaled $agent) }}
workers.{{ get $autoscaled $agent }} and workers.{{ $name }} scale the same agent, whose workers are counted together: autoscale one
{{- else if $worker.autoscaling.enabled }}
{{- $_ := set $autoscaled $agent $name }}
{{- end }}
{{- if and $worker.autoscaling.enabled (not $worker.autoscaling.prometheusAddress) }}
workers.{{ $name }}.autoscaling.prometheusAddress is required with autoscaling.enabled
{{- end }}
{{- if and $worker.autoscaling.enabled (gt (int $worker.autoscaling.minReplicas) (int $worker.autoscaling.maxReplicas)) }}
workers.{{ $name }}.autoscaling.minReplicas is more than maxReplicas
{{- end }}
{{- end }}
{{- end -}}
