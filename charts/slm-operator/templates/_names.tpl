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
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}
