{{/* Names end in -operator so that tenants' objects in the same namespace never meet them; 63 is a label's limit. */}}
{{- define "percolate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "percolate.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := include "percolate.name" . }}
{{- $base := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- printf "%s-operator" ($base | trunc 54 | trimSuffix "-") }}
{{- end }}
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
{{- default (ternary (include "percolate.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name }}
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
