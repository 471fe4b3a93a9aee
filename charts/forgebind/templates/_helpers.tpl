{{- define "forgebind.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "forgebind.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "forgebind.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "forgebind.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: forgebind
{{- end -}}

{{/* The processes of this mode, each with its name, its subcommand and the key of its values. */}}
{{- define "forgebind.components" -}}
{{- if eq .Values.mode "Single" -}}
- {component: operator, command: run, values: controller, roles: [controller, receiver], receives: true}
{{- else -}}
- {component: controller, command: controller, values: controller, roles: [controller], receives: false}
- {component: receiver, command: receiver, values: receiver, roles: [receiver], receives: true}
{{- end -}}
{{- end -}}

{{- define "forgebind.componentName" -}}
{{- $fullname := include "forgebind.fullname" .root -}}
{{- if eq .component "operator" }}{{ $fullname }}{{ else }}{{ printf "%s-%s" $fullname .component }}{{ end -}}
{{- end -}}

{{- define "forgebind.receiverComponent" -}}
{{- if eq .Values.mode "Single" }}operator{{ else }}receiver{{ end -}}
{{- end -}}

{{/* Whether receivers run as a StatefulSet with claims. Both workloads run while one replaces the other. */}}
{{- define "forgebind.persistentReceivers" -}}
{{- if and (eq .Values.mode "Separate") .Values.receiver.persistence.enabled }}true{{ end -}}
{{- end -}}

{{/* Whether receivers run as a Deployment. */}}
{{- define "forgebind.localReceivers" -}}
{{- if and (eq .Values.mode "Separate") (or .Values.receiver.persistence.keepDeployment (not .Values.receiver.persistence.enabled)) }}true{{ end -}}
{{- end -}}

{{/* The name of the StatefulSet. Its pods get it with a hash of 11 characters as a label, and labels have 63. */}}
{{- define "forgebind.persistentName" -}}
{{- printf "%s-receiver-disk" (include "forgebind.fullname" . | trunc 38 | trimSuffix "-") -}}
{{- end -}}

{{/* Whether receivers hand their outbox over when they stop: those with an emptyDir, which is deleted with the pod. */}}
{{- define "forgebind.handsOver" -}}
{{- if or (eq .Values.mode "Single") (include "forgebind.localReceivers" .) }}true{{ end -}}
{{- end -}}

{{- define "forgebind.outboxDir" -}}/var/lib/forgebind/outbox{{- end -}}

{{/* A quantity such as 1Gi in bytes. */}}
{{- define "forgebind.bytes" -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $text := ternary (toString .) (int64 . | toString) (kindIs "string" .) -}}
{{- mul (regexFind "^[0-9]+" $text | int64) (index $units (regexFind "[A-Za-z]*$" $text)) -}}
{{- end -}}

{{/* --outbox-limit, as an integer or with its unit. */}}
{{- define "forgebind.outboxLimit" -}}
{{- $limit := .Values.receiver.outbox.limit -}}
{{- if lt (include "forgebind.bytes" $limit | int64) 67108864 -}}
{{- fail (printf "receiver.outbox.limit: %v is too small; set at least 64Mi" $limit) -}}
{{- end -}}
{{- ternary $limit (int64 $limit | toString) (kindIs "string" $limit) -}}
{{- end -}}

{{/* Bytes of the volume of the outbox: a quarter more than its limit, for what the store itself needs. */}}
{{- define "forgebind.outboxBytes" -}}
{{- div (mul (include "forgebind.bytes" (include "forgebind.outboxLimit" .) | int64) 5) 4 -}}
{{- end -}}

{{/* The same as a quantity. */}}
{{- define "forgebind.outboxSize" -}}
{{- $bytes := include "forgebind.outboxBytes" . | int64 -}}
{{- if eq (mod $bytes 1048576) 0 -}}
{{- printf "%dMi" (div $bytes 1048576) -}}
{{- else -}}
{{- $bytes -}}
{{- end -}}
{{- end -}}

{{- define "forgebind.serviceAccountName" -}}
{{- $account := (index .root.Values .values).serviceAccount -}}
{{- if $account.name -}}
{{- $account.name -}}
{{- else if $account.create -}}
{{- include "forgebind.componentName" . -}}
{{- else -}}
default
{{- end -}}
{{- end -}}

{{- define "forgebind.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "forgebind.installKey" -}}
{{- default "forgebind-install-key" .Values.installKey.existingSecret -}}
{{- end -}}

{{/* Namespaces in which Secrets may be read, as YAML; ["*"] for all. */}}
{{- define "forgebind.secretNamespaces" -}}
{{- if has "*" .Values.secretNamespaces -}}
["*"]
{{- else -}}
{{- default (list .Release.Namespace) .Values.secretNamespaces | uniq | toJson -}}
{{- end -}}
{{- end -}}

{{/* Value of --providers for the enabled providers. */}}
{{- define "forgebind.providers" -}}
{{- $served := list -}}
{{- range $provider := .Files.Get "files/providers.json" | fromJsonArray -}}
{{- if (index $.Values.providers $provider.member).enabled -}}
{{- $served = append $served $provider.flag -}}
{{- end -}}
{{- end -}}
{{- if not $served -}}
{{- fail "providers: none is enabled; enable at least one" -}}
{{- end -}}
{{- join "," $served -}}
{{- end -}}

{{- define "forgebind.proxied" -}}
{{- if or .Values.proxy.https .Values.proxy.http }}true{{ end -}}
{{- end -}}

{{/* Whether policies restrict writes of Forgebind's service accounts. Policies are cluster objects, so scope Namespaced has none. */}}
{{- define "forgebind.limitsWrites" -}}
{{- if and .Values.rbac.limitWrites (eq .Values.rbac.scope "Cluster") }}true{{ end -}}
{{- end -}}

{{/* Arguments of a server, as a YAML list. */}}
{{- define "forgebind.arguments" -}}
{{- $values := .root.Values -}}
- {{ .command }}
- --namespace={{ .root.Release.Namespace }}
{{- if .receives }}
- --listen={{ $values.listenAddress }}:8080
{{- end }}
- --admin-listen={{ $values.listenAddress }}:9090
{{- if .receives }}
- --outbox=disk
- --outbox-dir={{ include "forgebind.outboxDir" .root }}
- --outbox-limit={{ include "forgebind.outboxLimit" .root }}
- --drain-timeout={{ $values.receiver.drainSeconds }}s
{{- if not .persistent }}
- --hand-over
- --receivers=service/{{ include "forgebind.componentName" . }}-admin
{{- end }}
{{- end }}
{{- with include "forgebind.publicURLArgument" .root }}
- --public-url={{ . }}
{{- end }}
{{- with $values.formerPublicURLs }}
- --former-public-urls={{ join "," . }}
{{- end }}
{{- with $values.watchNamespaces }}
- --watch-namespaces={{ join "," . }}
{{- end }}
- --providers={{ include "forgebind.providers" .root }}
{{- if has "controller" .roles }}
{{- $references := include "forgebind.secretNamespaces" .root | fromJsonArray }}
{{- if not (has "*" $references) }}
- --secret-namespaces={{ join "," $references }}
{{- end }}
{{- if eq .component "controller" }}
- --receivers=service/{{ include "forgebind.fullname" .root }}-receiver-admin
{{- end }}
{{- with $values.installKey.existingSecret }}
- --install-key-secret={{ . }}
{{- end }}
{{- if $values.installKey.beginAnew }}
- --new-install-key
{{- end }}
{{- if $values.readOnly }}
- --read-only
{{- end }}
{{- with $values.missingGrantTimeout }}
- --missing-grant-timeout={{ . }}
{{- end }}
{{- with $values.cleanupTimeout }}
- --cleanup-timeout={{ . }}
{{- end }}
{{- end }}
{{- with $values.allow.providerHosts }}
- --allow-provider-hosts={{ join "," . }}
{{- end }}
{{- with $values.allow.proxyHosts }}
- --allow-proxy-hosts={{ join "," . }}
{{- end }}
{{- with $values.allow.sinkHosts }}
- --allow-sink-hosts={{ join "," . }}
{{- end }}
{{- with $values.allow.cidrs }}
- --allow-cidrs={{ join "," . }}
{{- end }}
{{- if $values.allow.insecureHTTP }}
- --allow-insecure-http
{{- end }}
{{- if include "forgebind.proxied" .root }}
- --use-environment-proxy
{{- end }}
- --log-format={{ $values.log.format }}
- --log-filter={{ $values.log.filter }}
{{- with (index $values .values).extraArgs }}
{{- range . }}
{{- if hasPrefix "--outbox" . }}
{{- fail (printf "%s.extraArgs: %s is not allowed; the outbox of a pod is always on a disk, see receiver.outbox and receiver.persistence" $.values .) }}
{{- end }}
{{- end }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Environment variables of a process. */}}
{{- define "forgebind.environment" -}}
{{- $values := .root.Values -}}
- name: HOSTNAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- if and .receives (not .persistent) }}
- name: FORGEBIND_POD_IPS
  valueFrom: {fieldRef: {fieldPath: status.podIPs}}
{{- end }}
{{- if or $values.caBundle.configMap $values.caBundle.secret }}
- name: SSL_CERT_DIR
  value: /etc/ssl/certs:/etc/forgebind/ca
{{- end }}
{{- with $values.proxy.https }}
- name: HTTPS_PROXY
  value: {{ . | quote }}
{{- end }}
{{- with $values.proxy.http }}
- name: HTTP_PROXY
  value: {{ . | quote }}
{{- end }}
{{- if include "forgebind.proxied" .root }}
- name: NO_PROXY
  value: {{ concat (list "$(KUBERNETES_SERVICE_HOST)" "localhost" "127.0.0.1" ".svc" ".cluster.local") (default list $values.proxy.exceptions) | join "," | quote }}
{{- end }}
{{- with (index $values .values).extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* A map without members that are null or empty. Helm removes some null values and keeps others, and ignores null in the values
of a parent chart, where an empty string works. */}}
{{- define "forgebind.withoutNulls" -}}
{{- $kept := dict -}}
{{- range $name, $value := . -}}
{{- if not (or (kindIs "invalid" $value) (eq (toString $value) "")) }}{{ $_ := set $kept $name $value }}{{ end -}}
{{- end -}}
{{- toYaml $kept -}}
{{- end -}}

{{/* As withoutNulls, for resources, whose two members are maps. */}}
{{- define "forgebind.resources" -}}
{{- $kept := dict -}}
{{- range $name, $of := . -}}
{{- $_ := set $kept $name (include "forgebind.withoutNulls" $of | fromYaml) -}}
{{- end -}}
{{- toYaml $kept -}}
{{- end -}}

{{/* A duration such as 1h30m in seconds. */}}
{{- define "forgebind.seconds" -}}
{{- $sum := 0 -}}
{{- range regexFindAll "[0-9]+[hms]" . -1 -}}
{{- $unit := ternary 3600 (ternary 60 1 (hasSuffix "m" .)) (hasSuffix "h" .) -}}
{{- $sum = add $sum (mul $unit (regexFind "[0-9]+" . | int)) -}}
{{- end -}}
{{- $sum -}}
{{- end -}}

{{/* Public URLs by name, as a JSON object. The default URL has an empty name. */}}
{{- define "forgebind.publicURLs" -}}
{{- $urls := deepCopy (default dict .Values.publicURLs) -}}
{{- range $name, $_ := $urls -}}
{{- if or (eq $name "default") (not (regexMatch "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$" $name)) -}}
{{- fail (printf "publicURLs: %q is not a valid name; use at most 63 lower-case letters, digits and dashes, and publicURL for the default URL" $name) -}}
{{- end -}}
{{- end -}}
{{- with .Values.publicURL -}}
{{- $_ := set $urls "" . -}}
{{- end -}}
{{- toJson $urls -}}
{{- end -}}

{{/* Public URLs in the format of --public-url. */}}
{{- define "forgebind.publicURLArgument" -}}
{{- $entries := list -}}
{{- range $name, $url := include "forgebind.publicURLs" . | fromJson -}}
{{- $entries = append $entries (ternary $url (printf "%s=%s" $name $url) (empty $name)) -}}
{{- end -}}
{{- join "," $entries -}}
{{- end -}}

{{/* Hosts of the public URLs for an Ingress or HTTPRoute, as a JSON array without duplicates, each with the suffix for the names
of its own objects. Each host has its own certificate, so that a failure to issue one does not affect the others. */}}
{{- define "forgebind.publicHosts" -}}
{{- $hosts := list -}}
{{- $seen := list -}}
{{- range $name, $url := include "forgebind.publicURLs" . | fromJson -}}
{{- $host := (urlParse $url).hostname -}}
{{- if not (has $host $seen) -}}
{{- $seen = append $seen $host -}}
{{- $hosts = append $hosts (dict "host" $host "suffix" (ternary "" (printf "-%s" $name) (empty $name))) -}}
{{- end -}}
{{- end -}}
{{- if not $hosts -}}
{{- fail "publicURL: required for an Ingress or HTTPRoute; set it to the URL at which providers reach the receiver, such as https://hooks.acme.io" -}}
{{- end -}}
{{- toJson $hosts -}}
{{- end -}}

{{/* Paths of the public URLs, as a JSON array without duplicates. */}}
{{- define "forgebind.publicPaths" -}}
{{- $paths := list -}}
{{- range include "forgebind.publicURLs" . | fromJson -}}
{{- $paths = append $paths ((urlParse .).path | trimSuffix "/") -}}
{{- end -}}
{{- uniq $paths | toJson -}}
{{- end -}}

{{- define "forgebind.certManagerAnnotations" -}}
{{- if and .clusterIssuer .issuer -}}
{{- fail "certManager: set clusterIssuer or issuer, not both" -}}
{{- end -}}
{{- with .clusterIssuer }}cert-manager.io/cluster-issuer: {{ . }}{{ end -}}
{{- with .issuer }}cert-manager.io/issuer: {{ . }}{{ end -}}
{{- end -}}
