{{/* A value as CEL builds it: objects by the type of their path, since CEL's own maps take values of one type only. */}}
{{- define "promptops.cel" -}}
{{- $path := .path -}}
{{- if kindIs "map" .value -}}
{{- if regexMatch "[.](limits|requests|matchLabels|labels|annotations|volumeAttributes|options)$" $path -}}
{ {{- $first := true }}{{ range $k, $v := .value }}{{ if not $first }}, {{ end }}{{ $first = false }}{{ toJson $k }}: {{ toString $v | toJson }}{{ end -}} }
{{- else -}}
{{ $path }}{ {{- $first := true }}{{ range $k, $v := .value }}{{ if not $first }}, {{ end }}{{ $first = false }}{{ $k }}: {{ include "promptops.cel" (dict "path" (printf "%s.%s" $path $k) "value" $v) }}{{ end -}} }
{{- end -}}
{{- else if kindIs "slice" .value -}}
[{{ range $i, $v := .value }}{{ if $i }}, {{ end }}{{ include "promptops.cel" (dict "path" $path "value" $v) }}{{ end }}]
{{- else -}}
{{ toJson .value }}
{{- end -}}
{{- end }}

{{/* Patches that append .items to a list of the pod's spec, .list; it is made where it is not there, or empty. */}}
{{- define "promptops.append" -}}
{{- $path := printf "/spec/%s" (.list | replace "." "/") -}}
{{- $at := printf "object.spec.%s" .list -}}
{{- if contains "." .list }}{{ $at = printf "has(object.spec.%s) && has(%s)" (splitList "." .list | first) $at }}{{ else }}{{ $at = printf "has(%s)" $at }}{{ end -}}
({{ $at }} ? [] : [JSONPatch{op: "add", path: {{ toJson $path }}, value: []}]) + [
{{- $type := printf "Object.spec.%s" .list -}}
{{- range $i, $v := .items }}{{ if $i }}, {{ end }}JSONPatch{op: "add", path: {{ printf "%s/-" $path | toJson }}, value: {{ include "promptops.cel" (dict "path" $type "value" $v) }}}{{ end -}}
]
{{- end }}
