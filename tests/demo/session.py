"""The session that the demo plays, step by step, as data.

``{namespace}``, ``{pod}``, ``{port}`` and ``{owner}`` are learned from the answer of the second step, as an agent
learns them.
"""

from __future__ import annotations

from tests.demo import cluster
from tests.demo.flows import FlowMeasurement
from tests.demo.place import Needs
from tests.demo.step import CommandStep, Explains, IsRefused, Runs, Step, ToolList

ALL_TOOLS = ("obi_kubectl", "obi_helm", "obi_command", "obi_explain_command", "obi_k8s_preflight")
OBI = "app.kubernetes.io/part-of in (obi, beyla)"
METRICS = "kubectl get --raw /api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy/metrics"

PODS = (
    f"kubectl get pods -A -l '{OBI}' -o json | jq -r '.items[] | [.metadata.namespace, .metadata.name, .spec.nodeName, "
    ".status.phase, .spec.containers[0].ports[0].containerPort, .metadata.ownerReferences[0].name] | @tsv'"
)

CONFIG_MAP = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: obi-debug
  namespace: observability
  labels: {app.kubernetes.io/name: opentelemetry-ebpf-instrumentation, app.kubernetes.io/part-of: obi}
data:
  ebpf-instrument-config.yml: |
    log_level: DEBUG
    network:
      enable: true
    prometheus_export:
      port: 9090
"""

FOREIGN_IMAGE = """\
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: obi-helper, namespace: observability, labels: {app.kubernetes.io/part-of: obi}}
spec:
  selector: {matchLabels: {app.kubernetes.io/part-of: obi}}
  template:
    metadata: {labels: {app.kubernetes.io/part-of: obi}}
    spec:
      hostPID: true
      containers:
      - {name: helper, image: docker.io/library/alpine:3, securityContext: {privileged: true}}
"""

HELM_INSTALL = (
    "helm upgrade --install obi obi -n obi --create-namespace --set "
    "fullnameOverride=obi-obi,nodeSelector.type=kwok,config.prometheus_export.port=9091"
)

STEPS: tuple[Step, ...] = (
    ToolList("The tools that the server offers", ALL_TOOLS),
    CommandStep(
        "OBI's pods, through jq",
        "obi_kubectl",
        PODS,
        Runs(
            hides=("obi-helper",),
            learn=r"^(?P<namespace>\S+)\t(?P<pod>\S+)\t{node}\tRunning\t(?P<port>\d*)\t(?P<owner>\S+)$",
            checks=("membership",),
        ),
    ),
    CommandStep(
        "OBI's logs, through grep",
        "obi_kubectl",
        "kubectl logs {pod} -n {namespace} | grep -m 4 -E 'level=(INFO|WARN|ERROR)'",
        Runs(shows=("level=",), checks=("membership",)),
    ),
    CommandStep(
        "OBI's own metrics, through the API server's pod proxy",
        "obi_kubectl",
        METRICS + " | grep -E '^(obi|beyla|http|rpc|db)_' | sort | head -n 5",
        Runs(shows=(r"^[a-z]+_\w+.* \S+$",), checks=("membership",)),
        needs=Needs.ANSWERING_POD,
        wants=("port",),
    ),
    FlowMeasurement(
        "The flow metric against bytes that were really sent", "obi_kubectl", METRICS + " | grep flow_bytes_total"
    ),
    CommandStep(
        "A list that asks for too much is narrowed, and says so",
        "obi_kubectl",
        "kubectl get daemonsets,configmaps -A",
        Runs(shows=("daemonset",), hides=("grafana", "storefront"), added=OBI),
    ),
    CommandStep(
        "Denied: a secret",
        "obi_kubectl",
        "kubectl get secret grafana-admin -n observability -o yaml",
        IsRefused("denied", "^kubectl get ", rule="hard.credentials"),
    ),
    CommandStep(
        "Denied: a flag before the verb, with which kubectl would run delete",
        "obi_kubectl",
        "kubectl -A get delete configmap obi",
        IsRefused("invalid_command", "flags after the command", rule="syntax"),
    ),
    CommandStep(
        "Denied: awk",
        "obi_kubectl",
        "kubectl get pods -n observability | awk '{print $1}'",
        IsRefused("denied", r"\bcut\b.*\bjq\b", rule="hard.program"),
    ),
    CommandStep(
        "Denied: a foreign image under OBI's labels",
        "obi_kubectl",
        "kubectl apply -f - --dry-run=server",
        IsRefused("denied", "^use ghcr.io/.*/ebpf-instrument, or have it added to scope.images$", rule="kubectl.apply"),
        stdin=FOREIGN_IMAGE,
    ),
    CommandStep(
        "Denied: a foreign namespace",
        "obi_kubectl",
        "kubectl logs deployment/cart -n shop --tail=5",
        IsRefused("denied", "observability", rule="kubectl.logs"),
    ),
    CommandStep(
        "Refused by a look at the cluster: a foreign pod that carries OBI's labels, in OBI's namespace",
        "obi_kubectl",
        "kubectl logs obi-helper -n observability",
        IsRefused("not_found", "^list what is OBI's"),
        needs=Needs.SANDBOX,
    ),
    CommandStep(
        "An allowed change, with its checks",
        "obi_kubectl",
        "kubectl apply -f -",
        Runs(shows=("configmap/obi-debug created",), checks=("dry-run",)),
        stdin=CONFIG_MAP,
        needs=Needs.SANDBOX,
    ),
    CommandStep(
        "Another, asked about first: what would it be checked for?",
        "obi_explain_command",
        "kubectl rollout restart daemonset/{owner} -n {namespace}",
        Explains(checks=("membership",)),
        needs=Needs.CHANGES,
    ),
    CommandStep(
        "OBI is restarted",
        "obi_kubectl",
        "kubectl rollout restart daemonset/{owner} -n {namespace}",
        Runs(shows=("daemonset.apps/{owner} restarted",), checks=("membership",)),
        needs=Needs.CHANGES,
    ),
    CommandStep(
        "and comes back",
        "obi_kubectl",
        "kubectl rollout status daemonset/{owner} -n {namespace} --timeout=100s | tail -n 2",
        Runs(shows=("successfully rolled out",), checks=("membership",)),
        needs=Needs.CHANGES,
    ),
    CommandStep(
        "The shipped chart is installed, judged by what helm renders",
        "obi_helm",
        HELM_INSTALL,
        Runs(shows=("STATUS: deployed",), checks=("release", "render")),
        needs=Needs.SANDBOX,
    ),
    CommandStep(
        "Helm's view: OBI's releases, and no others",
        "obi_helm",
        "helm list -A",
        Runs(shows=("{releases}",), added="--filter"),
    ),
    *cluster.STEPS,
)
