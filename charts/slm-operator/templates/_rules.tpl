{{- /* Exactly what the code calls: tests/e2e/test_rbac.py compares these rules with the API audit log, both ways. */}}
{{- define "slm.rules.serving" -}}
# patch: spec.replicas, while nobody else sets it, and no other field; the admission policies hold it to that.
- apiGroups: [slm-operator.io]
  resources: [slmdeployments]
  verbs: [list, watch, patch]
# delete: those that nobody has used for config.profiles.retentionDays; the admission policies hold it to the operator's own.
- apiGroups: [slm-operator.io]
  resources: [slmprofiles]
  verbs: [list, watch, create, patch{{ if .Values.config.profiles.retentionDays }}, delete{{ end }}]
- apiGroups: [slm-operator.io]
  resources: [slmdeployments/status, slmprofiles/status]
  verbs: [patch]
# Where OwnerReferencesPermissionEnforcement is on (OpenShift), a child may block its owner's deletion only if its writer
# may set the owner's finalizers. None is ever set.
- apiGroups: [slm-operator.io]
  resources: [slmdeployments/finalizers, slmprofiles/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [list, watch, create, patch]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [list, watch, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [list, watch, create, patch]
# Foreign pods that hold GPUs are seen and waited for; only pods of the operator's own are deleted.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, delete]
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- if .Values.rbac.gatewayApi }}
# For spec.routing. These kinds are not watched: one is read before it is applied or deleted.
- apiGroups: [inference.networking.k8s.io]
  resources: [inferencepools]
  verbs: [get, create, patch, delete]
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, create, patch, delete]
{{- end }}
{{- end }}
{{- define "slm.rules.nodes" -}}
- apiGroups: [""]
  resources: [nodes]
  verbs: [list, watch, patch]
- apiGroups: [""]
  resources: [pods/eviction]
  verbs: [create]
# Watched across namespaces; the name in the watch's field selector is what this rule admits.
- apiGroups: [""]
  resources: [configmaps]
  resourceNames: [{{ .Values.config.devicePlugin.configMap }}]
  verbs: [list, watch]
{{- end }}
{{- define "slm.subjects" -}}
- {kind: ServiceAccount, name: {{ include "slm.serviceAccount" . }}, namespace: {{ .Release.Namespace }}}
{{- end }}
