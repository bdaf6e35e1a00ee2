{{/* A value as CEL builds it: objects by the type of their path, since CEL's own maps take values of one type only. */}}
{{- define "promptops.cel" -}}
{{- $path := .path -}}
{{- if kindIs "map" .value -}}
{{- if regexMatch "[.](limits|requests|matchLabels)$" $path -}}
{{ toJson .value }}
{{- else -}}
{{ $path }}{ {{- $first := true }}{{ range $k, $v := .value }}{{ if not $first }}, {{ end }}{{ $first = false }}{{ $k }}: {{ include "promptops.cel" (dict "path" (printf "%s.%s" $path $k) "value" $v) }}{{ end -}} }
{{- end -}}
{{- else if kindIs "slice" .value -}}
[{{ range $i, $v := .value }}{{ if $i }}, {{ end }}{{ include "promptops.cel" (dict "path" $path "value" $v) }}{{ end }}]
{{- else -}}
{{ toJson .value }}
{{- end -}}
{{- end }}
