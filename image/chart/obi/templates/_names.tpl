{{/* The name of every object: the release, with the chart's name where the release does not contain it. */}}
{{- define "obi.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "obi.cacheName" -}}
{{- printf "%s-k8s-cache" (include "obi.fullname" . | trunc 53 | trimSuffix "-") -}}
{{- end -}}

{{- define "obi.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "obi.fullname" .) -}}
{{- else -}}
{{- required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* What a selector may hold: it cannot be changed later, so nothing with a version. The chart may have another name. */}}
{{- define "obi.selectorLabels" -}}
app.kubernetes.io/name: obi
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "obi.cacheSelectorLabels" -}}
app.kubernetes.io/name: opentelemetry-ebpf-instrumentation-k8s-cache
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The labels that every object has besides those of its selector. */}}
{{- define "obi.commonLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | replace "+" "_" | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: obi
{{- end -}}

{{- define "obi.labels" -}}
{{ include "obi.commonLabels" . }}
{{ include "obi.selectorLabels" . }}
{{- end -}}

{{- define "obi.cacheLabels" -}}
{{ include "obi.commonLabels" . }}
{{ include "obi.cacheSelectorLabels" . }}
app.kubernetes.io/component: cache
{{- end -}}

{{- define "obi.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "obi.cacheImage" -}}
{{- with .Values.k8sCache.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (.tag | default $.Values.image.tag | default $.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* OBI's own configuration, with the address of the k8s-cache where there is one and the values name no other. */}}
{{- define "obi.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- if .Values.k8sCache.enabled -}}
{{- $address := printf "%s.%s:50055" (include "obi.cacheName" .) .Release.Namespace -}}
{{- $config = merge $config (dict "attributes" (dict "kubernetes" (dict "meta_cache_address" $address))) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* The port of the metrics, by OBI's own configuration; nothing where it is off. */}}
{{- define "obi.metricsPort" -}}
{{- with dig "prometheus_export" "port" 0 .Values.config -}}
{{- . -}}
{{- end -}}
{{- end -}}
