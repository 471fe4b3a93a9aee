{{/*
Permissions of each process at the API server, by scope. All Roles are made from this list. A test runs the processes with
these permissions and compares the list with the API server's audit log, so that no verb is missing or unused.

watched     connections, grants, bindings and Services, in every namespace, or in each watched namespace if rbac.scope is Namespaced
references  Secrets and ConfigMaps, in each of secretNamespaces
own         objects in the namespace of the release
cluster     cluster objects
*/}}
{{- define "forgebind.rights" -}}
{{- $shards := list -}}
{{- range until 64 }}{{ $shards = append $shards (printf "forgebind-receiver-secrets-%d" .) }}{{ end -}}
{{- $leftovers := list -}}
{{- range until 16 }}{{ $leftovers = append $leftovers (printf "forgebind-leftover-hooks-%d" .) }}{{ end -}}
{{- $installKey := include "forgebind.installKey" . -}}
controller:
  watched:
  # Reads specs and patches finalizers.
  - {apiGroups: [forgebind.dev], resources: [gitproviderconnections, repobindings], verbs: [list, patch, watch]}
  - {apiGroups: [forgebind.dev], resources: [connectiongrants], verbs: [list, watch]}
  - {apiGroups: [forgebind.dev], resources: [gitproviderconnections/status, connectiongrants/status, repobindings/status], verbs: [patch]}
  # The lists of the repositories that connections reach.
  - {apiGroups: [forgebind.dev], resources: [repositoryslices], verbs: [create, delete, list, update, watch]}
  - {apiGroups: [events.k8s.io], resources: [events], verbs: [create, patch]}
  references:
  - {apiGroups: [""], resources: [configmaps, secrets], verbs: [get, list, watch]}
  own:
  # RBAC cannot restrict create to a name.
  - {apiGroups: [""], resources: [secrets], verbs: [create]}
  # Watched, so that a deleted key is written back.
  - {apiGroups: [""], resources: [secrets], resourceNames: [{{ $installKey }}], verbs: [get, list, watch]}
  - {apiGroups: [""], resources: [secrets], resourceNames: {{ prepend $shards "forgebind-receiver-key" | toJson }}, verbs: [get, list, update, watch]}
  # Leftover hooks are recorded in ConfigMaps, which are found by a label.
  - {apiGroups: [""], resources: [configmaps], verbs: [create, list]}
  - {apiGroups: [""], resources: [configmaps], resourceNames: {{ $leftovers | toJson }}, verbs: [get, update]}
  - {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [create]}
  - {apiGroups: [coordination.k8s.io], resources: [leases], resourceNames: [forgebind-controller], verbs: [get, list, patch, watch]}
  {{- if eq .Values.mode "Separate" }}
  # Addresses of the receivers, from which evidence is collected.
  - {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}
  {{- end }}
  cluster:
  - {apiGroups: [""], resources: [namespaces], verbs: [list, watch]}
  - {apiGroups: [networking.k8s.io], resources: [servicecidrs], verbs: [list]}
receiver:
  watched:
  {{- if eq .Values.mode "Separate" }}
  - {apiGroups: [forgebind.dev], resources: [gitproviderconnections, connectiongrants, repobindings], verbs: [list, watch]}
  {{- end }}
  # The addresses of the Services that sinks name. No DNS name of a Service is resolved.
  - {apiGroups: [""], resources: [services], verbs: [list, watch]}
  own:
  {{- if eq .Values.mode "Separate" }}
  # The receivers' part of the install key, never the key itself.
  - {apiGroups: [""], resources: [secrets], resourceNames: [forgebind-receiver-key], verbs: [get]}
  {{- end }}
  # Addresses of the other receivers, one of which takes over the outbox of a receiver that stops.
  - {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}
  # What bindings name in Secrets of their namespaces, prepared: webhook secrets of users, and what sinks need.
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

{{/* Roles and role bindings of a process: .root, .name, .account, .roles, .annotations. */}}
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
{{- fail "rbac.scope: Namespaced requires watchNamespaces; without it every namespace is watched, which needs a ClusterRole" -}}
{{- end -}}
{{- range $root.Values.watchNamespaces | uniq }}{{ $_ := set $byNamespace . (concat (get $byNamespace . | default list) $watched) }}{{ end -}}
{{- else -}}
{{- /* Also if only some namespaces are watched: a namespace that is deleted loses its Roles first, and its objects could then
       not be finalized. */ -}}
{{- $everywhere = concat $everywhere $watched $cluster -}}
{{- end -}}
{{- if $references -}}
{{- $namespaces := include "forgebind.secretNamespaces" $root | fromJsonArray -}}
{{- if has "*" $namespaces -}}
{{- if eq $root.Values.rbac.scope "Namespaced" -}}
{{- fail "rbac.scope: Namespaced requires secretNamespaces to list namespaces by name" -}}
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
