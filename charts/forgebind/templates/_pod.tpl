{{/* Labels by which a budget and the spread find the pods of one workload. A Deployment and a StatefulSet of receivers may run
at the same time, so their pods differ in one label. The selector of the Deployment does not have it, because a selector cannot
be changed. */}}
{{- define "forgebind.podLabels" -}}
{{ include "forgebind.selectorLabels" .root }}
app.kubernetes.io/component: {{ .component }}
{{- if eq .component "receiver" }}
forgebind.dev/outbox: {{ ternary "persistent" "ephemeral" .persistent }}
{{- end }}
{{- end -}}

{{/* The pod template of a workload. .persistent: the outbox is on a PersistentVolumeClaim, which a StatefulSet provides. */}}
{{- define "forgebind.podTemplate" -}}
{{- $root := .root -}}
{{- $values := index $root.Values .values -}}
{{- $bundle := or $root.Values.caBundle.configMap $root.Values.caBundle.secret -}}
{{- $local := and .receives (not .persistent) -}}
{{- $resources := deepCopy (default dict $values.resources) -}}
{{- if $local -}}
{{- /* The scheduler then chooses a node that has room for the outbox. */ -}}
{{- $requests := merge (default dict $resources.requests) (dict "ephemeral-storage" (include "forgebind.outboxSize" $root)) -}}
{{- $_ := set $resources "requests" $requests -}}
{{- end -}}
{{- $security := deepCopy (default dict $root.Values.podSecurityContext) -}}
{{- if .persistent -}}
{{- /* Otherwise each start makes the files of the volume writable for their group. */ -}}
{{- $_ := set $security "fsGroupChangePolicy" "OnRootMismatch" -}}
{{- end -}}
metadata:
  labels:
    {{- include "forgebind.podLabels" $ | nindent 4 }}
    {{- with $values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: forgebind
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "forgebind.serviceAccountName" $ }}
  automountServiceAccountToken: true
  # The environment variables of Services would be read as settings.
  enableServiceLinks: false
  {{- if .receives }}
  # Time to finish what is in flight and to hand over the outbox, and 15 s more, of which the preStop hook takes 5.
  terminationGracePeriodSeconds: {{ add $root.Values.receiver.drainSeconds 15 }}
  {{- end }}
  securityContext: {{- include "forgebind.withoutNulls" $security | nindent 4 }}
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with $values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  containers:
  - name: forgebind
    image: {{ include "forgebind.image" $root }}
    imagePullPolicy: {{ $root.Values.image.pullPolicy }}
    args: {{- include "forgebind.arguments" $ | nindent 4 }}
    env: {{- include "forgebind.environment" $ | nindent 4 }}
    ports:
    {{- if .receives }}
    - {name: http, containerPort: 8080}
    {{- end }}
    - {name: admin, containerPort: 9090}
    livenessProbe:
      httpGet: {path: /livez, port: admin}
    readinessProbe:
      httpGet: {path: /readyz, port: admin}
      periodSeconds: 5
    # The first listing of many objects takes time.
    startupProbe:
      httpGet: {path: /livez, port: admin}
      periodSeconds: 2
      failureThreshold: 60
    {{- if .receives }}
    lifecycle:
      # Load balancers continue to send for a moment after the pod is asked to stop.
      preStop: {sleep: {seconds: 5}}
    {{- end }}
    resources: {{- include "forgebind.resources" $resources | nindent 6 }}
    securityContext: {{- include "forgebind.withoutNulls" $root.Values.securityContext | nindent 6 }}
    {{- if or .receives $bundle }}
    volumeMounts:
    {{- end }}
    {{- if .receives }}
    - {name: outbox, mountPath: {{ include "forgebind.outboxDir" $root }}}
    {{- end }}
    {{- if $bundle }}
    - {name: ca, mountPath: /etc/forgebind/ca, readOnly: true}
    {{- end }}
  {{- if or $local $bundle }}
  volumes:
  {{- end }}
  {{- if $local }}
  - name: outbox
    emptyDir: {sizeLimit: {{ include "forgebind.outboxSize" $root | quote }}}
  {{- end }}
  {{- if $bundle }}
  - name: ca
    {{- if $root.Values.caBundle.configMap }}
    configMap: {name: {{ $root.Values.caBundle.configMap }}}
    {{- else }}
    secret: {secretName: {{ $root.Values.caBundle.secret }}}
    {{- end }}
  {{- end }}
  {{- with $values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations: {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with $values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
  {{- if $values.topologySpreadConstraints }}
  {{- toYaml $values.topologySpreadConstraints | nindent 2 }}
  {{- else }}
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "forgebind.podLabels" $ | nindent 8 }}
    # Count only pods of the same revision.
    matchLabelKeys: [{{ ternary "controller-revision-hash" "pod-template-hash" $.persistent }}]
  {{- end }}
  {{- end }}
{{- end -}}
