{{- define "slm.name" -}}
{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- define "slm.selector" -}}
app.kubernetes.io/name: slm-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "slm.labels" -}}
{{ include "slm.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
{{- define "slm.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "slm.name" .) }}
{{- end }}
{{- define "slm.image" -}}
{{- with .Values.image }}
{{- $registry := $.Values.global.imageRegistry | default .registry }}
{{- $name := ternary (printf "%s/%s" $registry .repository) .repository (ne $registry "") }}
{{- if .digest }}{{ $name }}@{{ .digest }}{{ else }}{{ $name }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}
{{- /* An image of others, in the registry of the mirror where there is one: (list registry image). */ -}}
{{- define "slm.mirrored" -}}
{{- $registry := index . 0 }}
{{- $image := index . 1 }}
{{- $path := regexReplaceAll "^([^/]*[.:][^/]*|localhost)/" $image "" }}
{{- ternary (printf "%s/%s" $registry $path) $image (and (ne $registry "") (ne $image "")) }}
{{- end }}
{{- define "slm.pullSecrets" -}}
{{ concat .Values.imagePullSecrets .Values.global.imagePullSecrets | uniq | toJson }}
{{- end }}
