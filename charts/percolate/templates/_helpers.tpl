{{- define "percolate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Cut so that with "-operator" it stays within 63, a label's limit. */}}
{{- define "percolate.fullname" -}}
{{- $name := include "percolate.name" . }}
{{- $default := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- default $default .Values.fullnameOverride | trunc 54 | trimSuffix "-" }}
{{- end }}

{{/* The name of objects of kinds that tenants have too: a tenant called like the release must not meet them. */}}
{{- define "percolate.operatorName" -}}
{{- include "percolate.fullname" . }}-operator
{{- end }}

{{- define "percolate.selectorLabels" -}}
app.kubernetes.io/name: {{ include "percolate.name" . }}-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "percolate.labels" -}}
{{ include "percolate.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: percolate
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "percolate.serviceAccountName" -}}
{{- default (ternary (include "percolate.operatorName" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name }}
{{- end }}

{{- define "percolate.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
{{- end }}

{{- define "percolate.nodeImage" -}}
{{- default (printf "ghcr.io/percolationlabs/percolate-node:%s" .Chart.AppVersion) .Values.nodeImage }}
{{- end }}

{{- define "percolate.subject" -}}
- kind: ServiceAccount
  name: {{ include "percolate.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}
