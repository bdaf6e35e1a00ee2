{{- define "promptops.name" -}}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{- end }}
{{- define "promptops.labels" -}}
app.kubernetes.io/name: {{ include "promptops.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}
{{/* Probes and Prometheus come from outside the pod. */}}
{{- define "promptops.port" -}}
{{- $at := .Values.config.admin.address -}}
{{- if or (not (regexMatch ":[0-9]+$" $at)) (regexMatch "^(unix:|127[.]|localhost|\\[::1\\])" $at) -}}
{{ fail (printf "config.admin.address is %q, where the kubelet's probes do not come; allowed in a pod: such as 0.0.0.0:9901 or [::]:9901" $at) }}
{{- end -}}
{{ regexFind "[0-9]+$" $at }}
{{- end }}
{{/* "yes" when the admin port speaks TLS (its files may be further keys of the Secret: /etc/promptops/secret/NAME). */}}
{{- define "promptops.adminTls" -}}{{ with .Values.config.admin.tls }}{{ if .certificate_file }}yes{{ end }}{{ end }}{{- end }}
{{/* The application's base URL. */}}
{{- define "promptops.listen" -}}
{{- $at := .Values.config.listen.address | replace "0.0.0.0:" "127.0.0.1:" | replace "[::]:" "[::1]:" -}}
{{- $tls := "" }}{{ with .Values.config.listen.tls }}{{ if .certificate_file }}{{ $tls = "s" }}{{ end }}{{ end -}}
{{- if .Values.ownName.enabled }}https://{{ include "promptops.host" . }}{{ else if hasPrefix "unix:" $at }}{{ $at }}{{ else }}http{{ $tls }}://{{ $at }}{{ end -}}
{{- end }}
{{- define "promptops.host" -}}{{ (urlParse .Values.config.upstream.url).hostname }}{{- end }}

{{/* The configuration: what was given, and what the chart itself knows. */}}
{{- define "promptops.config" -}}
{{- $c := deepCopy .Values.config -}}
{{- $_ := set $c.admin "token_file" "/etc/promptops/secret/admin-token" -}}
{{- $auth := default dict $c.auth -}}
{{- $_ := set $auth "scheme" .Values.auth.scheme -}}
{{- if ne .Values.auth.scheme "passthrough" }}{{ $_ := set $auth "api_key_file" "/etc/promptops/secret/api-key" }}{{ end -}}
{{- if eq .Values.auth.scheme "signed" }}{{ $_ := set $auth "secret_key_file" "/etc/promptops/secret/secret-key" }}{{ end -}}
{{- $_ := set $c "auth" $auth -}}
{{- if .Values.ownName.enabled -}}
{{- $_ := set $c "listen" (merge (dict "address" "127.0.0.1:443" "tls" (dict "certificate_file" "/etc/promptops/own-name/tls.crt" "key_file" "/etc/promptops/own-name/tls.key")) (default dict $c.listen)) -}}
{{- $_ := set $c.upstream "connect_to" (printf "%s.%s.svc:443" .Values.ownName.service .Release.Namespace) -}}
{{- end -}}
{{ toYaml $c }}
{{- end }}

{{- define "promptops.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- define "promptops.security" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* The sidecar as an init container that stays (native sidecar). */}}
{{- define "promptops.container" -}}
name: promptops-sidecar
image: {{ include "promptops.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
restartPolicy: Always
args: [--config, /etc/promptops/config/sidecar.yaml]
env:
  - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
  - {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
  - {name: POD_UID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
  - {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
  - {name: CONTAINER_NAME, value: promptops-sidecar}
  {{- with .Values.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
ports:
  - {name: promptops-admin, containerPort: {{ include "promptops.port" . }}}
startupProbe:
  httpGet: {path: /health/startup, port: promptops-admin{{ if include "promptops.adminTls" . }}, scheme: HTTPS{{ end }}}
  periodSeconds: 1
  failureThreshold: 30
readinessProbe:
  httpGet: {path: /health/ready, port: promptops-admin{{ if include "promptops.adminTls" . }}, scheme: HTTPS{{ end }}}
  periodSeconds: 5
livenessProbe:
  httpGet: {path: /health/live, port: promptops-admin{{ if include "promptops.adminTls" . }}, scheme: HTTPS{{ end }}}
  periodSeconds: 10
  failureThreshold: 3
resources: {{- toYaml .Values.resources | nindent 2 }}
securityContext: {{- include "promptops.security" . | nindent 2 }}
volumeMounts:
  - {name: promptops-config, mountPath: /etc/promptops/config, readOnly: true}
  - {name: promptops-secret, mountPath: /etc/promptops/secret, readOnly: true}
{{- if .Values.ownName.enabled }}
  - {name: promptops-own-name, mountPath: /etc/promptops/own-name, readOnly: true}
{{- end }}
{{- with .Values.volumeMounts }}
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "promptops.volumes" -}}
- name: promptops-config
  configMap: {name: {{ include "promptops.name" . }}-sidecar}
- name: promptops-secret
  secret: {secretName: {{ .Values.secret | quote }}, defaultMode: 0444}
{{- if .Values.ownName.enabled }}
- name: promptops-own-name
  secret: {secretName: {{ .Values.ownName.certificateSecret | quote }}, defaultMode: 0444}
{{- end }}
{{- with .Values.volumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* With the API's own name: where it leads to, and a port below 1024 for a user that is not root. */}}
{{- define "promptops.hostAliases" -}}
- {ip: 127.0.0.1, hostnames: [{{ include "promptops.host" . | quote }}]}
{{- end }}
{{- define "promptops.sysctls" -}}
- {name: net.ipv4.ip_unprivileged_port_start, value: "443"}
{{- end }}

{{/* What each pod with a sidecar has. */}}
{{- define "promptops.podSettings" -}}
terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
automountServiceAccountToken: false
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
securityContext:
  seccompProfile: {type: RuntimeDefault}
  {{- if .Values.ownName.enabled }}
  sysctls: {{- include "promptops.sysctls" . | nindent 4 }}
  {{- end }}
{{- if .Values.ownName.enabled }}
hostAliases: {{- include "promptops.hostAliases" . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The pod of the workload. */}}
{{- define "promptops.pod" -}}
metadata:
  labels:
    {{- include "promptops.labels" . | nindent 4 }}
    promptops.ai/sidecar: "true"
spec:
  {{- if eq .Values.workload "Job" }}
  restartPolicy: Never
  {{- end }}
  {{- include "promptops.podSettings" . | nindent 2 }}
  initContainers:
    - {{- include "promptops.container" . | nindent 6 }}
  containers:
    - name: app
      image: {{ .Values.app.image | quote }}
      {{- with .Values.app.command }}
      command: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.app.args }}
      args: {{- toYaml . | nindent 8 }}
      {{- end }}
      env:
        - {name: PROMPTOPS_BASE_URL, value: {{ include "promptops.listen" . | quote }}}
        {{- with .Values.app.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- if and .Values.app.port (eq .Values.workload "Deployment") }}
      ports:
        - {name: http, containerPort: {{ .Values.app.port }}}
      {{- end }}
      resources: {{- toYaml .Values.app.resources | nindent 8 }}
      {{- with .Values.app.volumeMounts }}
      volumeMounts: {{- toYaml . | nindent 8 }}
      {{- end }}
  volumes: {{- include "promptops.volumes" . | nindent 4 }}
{{- end }}
