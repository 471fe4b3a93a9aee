{{/*
What each process asks of the API server, by where: the one list from which every Role is made. A test runs the processes
with these rights and compares the list with the API server's audit log: neither a verb too few nor one too many.

watched     for connections and bindings: in every namespace, or in each watched one where rbac.scope is Namespaced
references  for Secrets and ConfigMaps: in each of secretNamespaces
own         in the release's namespace
cluster     for objects that are in no namespace
*/}}
{{- define "forgebind.rights" -}}
{{- $shards := list -}}
{{- range until 64 }}{{ $shards = append $shards (printf "forgebind-receiver-secrets-%d" .) }}{{ end -}}
{{- $leftovers := list -}}
{{- range until 16 }}{{ $leftovers = append $leftovers (printf "forgebind-leftover-hooks-%d" .) }}{{ end -}}
{{- $installKey := include "forgebind.installKey" . -}}
controller:
  watched:
  # Their specs are read, their finalizers patched.
  - {apiGroups: [forgebind.dev], resources: [gitproviderconnections, repobindings], verbs: [list, patch, watch]}
  - {apiGroups: [forgebind.dev], resources: [gitproviderconnections/status, repobindings/status], verbs: [patch]}
  - {apiGroups: [events.k8s.io], resources: [events], verbs: [create, patch]}
  references:
  - {apiGroups: [""], resources: [configmaps, secrets], verbs: [get, list, watch]}
  own:
  # The API server cannot limit a creation to a name.
  - {apiGroups: [""], resources: [secrets], verbs: [create]}
  # Watched, so that a key that somebody deletes is noticed and written back.
  - {apiGroups: [""], resources: [secrets], resourceNames: [{{ $installKey }}], verbs: [get, list, watch]}
  - {apiGroups: [""], resources: [secrets], resourceNames: {{ prepend $shards "forgebind-receiver-key" | toJson }}, verbs: [get, list, update, watch]}
  # Hooks that could not be removed are written down, and found by a label.
  - {apiGroups: [""], resources: [configmaps], verbs: [create, list]}
  - {apiGroups: [""], resources: [configmaps], resourceNames: {{ $leftovers | toJson }}, verbs: [get, update]}
  - {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [create]}
  - {apiGroups: [coordination.k8s.io], resources: [leases], resourceNames: [forgebind-controller], verbs: [get, list, patch, watch]}
  {{- if eq .Values.mode "Separate" }}
  # Where the receivers are that tell what they saw.
  - {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}
  {{- end }}
  cluster:
  - {apiGroups: [""], resources: [namespaces], verbs: [list, watch]}
  - {apiGroups: [networking.k8s.io], resources: [servicecidrs], verbs: [list]}
receiver:
  {{- if eq .Values.mode "Separate" }}
  watched:
  - {apiGroups: [forgebind.dev], resources: [gitproviderconnections, repobindings], verbs: [list, watch]}
  {{- end }}
  own:
  {{- if eq .Values.mode "Separate" }}
  # Its part of the install key; never the key itself.
  - {apiGroups: [""], resources: [secrets], resourceNames: [forgebind-receiver-key], verbs: [get]}
  {{- end }}
  # What it needs of the webhook secrets that users brought.
  - {apiGroups: [""], resources: [secrets], resourceNames: {{ $shards | toJson }}, verbs: [list, watch]}
  cluster:
  - {apiGroups: [networking.k8s.io], resources: [servicecidrs], verbs: [list]}
uninstall:
  watched:
  - {apiGroups: [forgebind.dev], resources: [gitproviderconnections, repobindings], verbs: [list, patch]}
  {{- if eq .Values.uninstall.hooks "Delete" }}
  - {apiGroups: [forgebind.dev], resources: [repobindings], verbs: [delete]}
  {{- end }}
  own:
  - {apiGroups: [""], resources: [secrets], resourceNames: [{{ $installKey }}], verbs: [get]}
  - {apiGroups: [""], resources: [configmaps], verbs: [list]}
{{- end -}}

{{/* The Roles and bindings of one process: .root, .name, .account, .roles, .annotations. */}}
{{- define "forgebind.roles" -}}
{{- $root := .root -}}
{{- $rights := include "forgebind.rights" $root | fromYaml -}}
{{- $watched := list -}}{{- $references := list -}}{{- $own := list -}}{{- $cluster := list -}}
{{- range $role := .roles -}}
{{- $of := index $rights $role -}}
{{- range $of.watched }}{{ if not (has . $watched) }}{{ $watched = append $watched . }}{{ end }}{{ end -}}
{{- range $of.references }}{{ $references = append $references . }}{{ end -}}
{{- range $of.own }}{{ if not (has . $own) }}{{ $own = append $own . }}{{ end }}{{ end -}}
{{- range $of.cluster }}{{ if not (has . $cluster) }}{{ $cluster = append $cluster . }}{{ end }}{{ end -}}
{{- end -}}
{{- $everywhere := list -}}{{- $byNamespace := dict -}}
{{- if eq $root.Values.rbac.scope "Namespaced" -}}
{{- if not $root.Values.watchNamespaces -}}
{{- fail "rbac.scope: Namespaced needs watchNamespaces: without a list every namespace is watched, which only a ClusterRole allows" -}}
{{- end -}}
{{- range $root.Values.watchNamespaces | uniq }}{{ $_ := set $byNamespace . (concat (get $byNamespace . | default list) $watched) }}{{ end -}}
{{- else -}}
{{- /* Also where only some namespaces are watched: a namespace that is deleted loses its Roles first, and nobody could
       release what is left in it. */ -}}
{{- $everywhere = concat $everywhere $watched $cluster -}}
{{- end -}}
{{- if $references -}}
{{- $namespaces := include "forgebind.secretNamespaces" $root | fromJsonArray -}}
{{- if has "*" $namespaces -}}
{{- if eq $root.Values.rbac.scope "Namespaced" -}}
{{- fail "rbac.scope: Namespaced needs secretNamespaces by name" -}}
{{- end -}}
{{- $everywhere = concat $everywhere $references -}}
{{- else -}}
{{- range $namespaces }}{{ $_ := set $byNamespace . (concat (get $byNamespace . | default list) $references) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- $_ := set $byNamespace $root.Release.Namespace (concat (get $byNamespace $root.Release.Namespace | default list) $own) -}}
{{- $subject := dict "kind" "ServiceAccount" "name" .account "namespace" $root.Release.Namespace -}}
{{- if $everywhere }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ .name }}
  labels: {{- include "forgebind.labels" $root | nindent 4 }}
  {{- with .annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
rules: {{- toYaml $everywhere | nindent 0 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ .name }}
  labels: {{- include "forgebind.labels" $root | nindent 4 }}
  {{- with .annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {{ .name }}}
subjects: {{- toYaml (list $subject) | nindent 0 }}
{{- end }}
{{- range $namespace, $rules := $byNamespace }}
{{- if $rules }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ $.name }}
  namespace: {{ $namespace }}
  labels: {{- include "forgebind.labels" $root | nindent 4 }}
  {{- with $.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
rules: {{- toYaml $rules | nindent 0 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ $.name }}
  namespace: {{ $namespace }}
  labels: {{- include "forgebind.labels" $root | nindent 4 }}
  {{- with $.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ $.name }}}
subjects: {{- toYaml (list $subject) | nindent 0 }}
{{- end }}
{{- end }}
{{- end -}}
