"""Values by platform: what each one needs of OBI's chart, with where the fact is from, and what it does not allow.

Everything besides development and production is rendered and checked here, and has run nowhere of ours: these facts are
read, not seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from obi_mcp.obi.capabilities import Feature
from obi_mcp.obi.chart.names import PresetName
from obi_mcp.obi.chart.values import values_of
from obi_mcp.obi.manifests.install import Environment, Install

_SECURITY = "https://opentelemetry.io/docs/zero-code/obi/security/"
_CILIUM = "https://opentelemetry.io/docs/zero-code/obi/cilium-compatibility/"
_LOG_ENRICHER = "https://github.com/open-telemetry/opentelemetry-ebpf-instrumentation/pull/1590"
_FARGATE = "https://docs.aws.amazon.com/eks/latest/userguide/fargate.html"
_DATAPLANE = "https://cloud.google.com/kubernetes-engine/docs/concepts/dataplane-v2"
_AUTOPILOT = "https://cloud.google.com/kubernetes-engine/docs/concepts/autopilot-security"
_ALLOWLISTS = "https://cloud.google.com/kubernetes-engine/docs/concepts/run-autopilot-open-source-workloads"
_OWN_ALLOWLIST = "https://docs.cloud.google.com/kubernetes-engine/docs/how-to/autopilot-privileged-allowlists"
_VIRTUAL_NODES = "https://learn.microsoft.com/azure/aks/virtual-nodes"
_SPOT = "https://learn.microsoft.com/azure/aks/spot-node-pool"
_BOTTLEROCKET = "https://github.com/bottlerocket-os/bottlerocket/blob/develop/SECURITY_FEATURES.md"
_LEAST_PRIVILEGE = "https://github.com/falcosecurity/charts/issues/361"
_SCC = "https://docs.redhat.com/en/documentation/openshift_container_platform/latest/html/security_apis/"
_SCC_API = f"{_SCC}securitycontextconstraints-security-openshift-io-v1"
_NODE_SELECTOR = "https://github.com/openshift/openshift-docs/pull/8773"
_SELINUX_BPF = "https://github.com/deepflowio/deepflow/issues/2211"

WRITES_MEMORY = frozenset({Feature.GO_CONTEXT_PROPAGATION, Feature.LOG_ENRICHER})
"""Features that write into the memory of what they instrument, which a locked down kernel does not let them."""
_ATTACHES_TC = frozenset({Feature.NETWORK_TC, Feature.CONTEXT_PROPAGATION, Feature.GO_CONTEXT_PROPAGATION})
_TRACEFS_FALLBACK = (0, 14)


@dataclass(frozen=True, slots=True)
class Setting:
    """A value of the chart that the platform needs. ``path`` is dotted; ``features`` empty: whatever is asked for."""

    path: str
    value: Any
    why: str
    source: str
    features: frozenset[Feature] = frozenset()


@dataclass(frozen=True, slots=True)
class Caution:
    """What these values cannot bring about. ``forbids``: without what it says OBI does not run there at all."""

    text: str
    source: str
    features: frozenset[Feature] = frozenset()
    forbids: bool = False


@dataclass(frozen=True, slots=True)
class Preset:
    """One platform. ``paranoid``: perf_event_paranoid of its nodes where it is known to be strict."""

    name: PresetName
    environment: Environment = Environment.PRODUCTION
    settings: tuple[Setting, ...] = ()
    cautions: tuple[Caution, ...] = ()
    paranoid: int | None = None

    def install(self, install: Install) -> Install:
        """The installation as this platform needs it."""
        paranoid = install.perf_event_paranoid
        if paranoid is None and _release(install.version) < _TRACEFS_FALLBACK:
            paranoid = self.paranoid
        return replace(install, environment=self.environment, perf_event_paranoid=paranoid)

    def values(self, install: Install) -> dict[str, Any]:
        """The chart's values for that installation here. Raises: InvalidDocument."""
        values = values_of(self.install(install))
        for setting in self.applied(install):
            values = _put(values, setting.path.split("."), setting.value)
        return {key: value for key, value in values.items() if key != "capabilities" or not values["privileged"]}

    def applied(self, install: Install) -> tuple[Setting, ...]:
        """The settings that count for the features asked for."""
        return tuple(entry for entry in self.settings if _concerns(entry.features, install))

    def warnings(self, install: Install) -> tuple[Caution, ...]:
        """The cautions that count for the features asked for; what forbids comes first."""
        return tuple(
            sorted(
                (entry for entry in self.cautions if _concerns(entry.features, install)),
                key=lambda entry: not entry.forbids,
            )
        )


def preset_of(name: str) -> Preset:
    """The preset of that name. Raises: ValueError for one that there is not."""
    return _PRESETS[PresetName(name)]


def _concerns(features: frozenset[Feature], install: Install) -> bool:
    return not features or bool(features & set(install.features))


def _release(version: str) -> tuple[int, int]:
    """Major and minor of a tag such as v0.11.0; of one that names none, the oldest."""
    parts = version.removeprefix("v").split(".")
    if len(parts) >= 2 and parts[0].isdigit() and parts[1].isdigit():
        return int(parts[0]), int(parts[1])
    return 0, 0


def _put(values: Mapping[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """With the value at that place; a list is added to what is there."""
    key, *below = path
    old = values.get(key)
    if below:
        new: Any = _put(old if isinstance(old, Mapping) else {}, below, value)
    elif isinstance(value, list) and isinstance(old, list):
        new = [*old, *value]
    else:
        new = value
    return {**values, key: new}


def _nodes_without(label: str, value: str) -> dict[str, Any]:
    """Affinity to nodes that do not have the label with that value."""
    term = {"matchExpressions": [{"key": label, "operator": "NotIn", "values": [value]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}


_AUTOPILOT_CAUTIONS = (
    Caution(
        "GKE Autopilot refuses these pods: the node's processes (hostPID), its network, host paths besides /var/log "
        "and capabilities such as BPF are not allowed without an allowlist",
        _AUTOPILOT,
        forbids=True,
    ),
    Caution(
        "Google's list of open source workloads for Autopilot names Grafana Beyla (Grafana/beyla/*) and not OBI: run "
        "Beyla by its own chart there, or use a Standard cluster",
        _ALLOWLISTS,
    ),
    Caution(
        "an allowlist of your own (WorkloadAllowlist in a bucket, installed by an AllowlistSynchronizer) is open to "
        "eligible customers; both objects are outside of this server's policy: apply them by hand",
        _OWN_ALLOWLIST,
    ),
)

_CILIUM_CAUTION = Caution(
    "GKE Dataplane V2 is Cilium: on kernels without TCX it and OBI both attach by netlink, and OBI ends where Cilium "
    "has priority 1",
    _CILIUM,
    _ATTACHES_TC,
)
_COS_CAUTION = Caution(
    "the log enricher of OBI v0.5 and v0.6 does not load on Container-Optimized OS: its verifier refuses the program",
    _LOG_ENRICHER,
    frozenset({Feature.LOG_ENRICHER}),
)
_TCX = Setting(
    "config.ebpf.traffic_control_backend",
    "tcx",
    f"Dataplane V2 is Cilium ({_DATAPLANE}); by TCX the two do not meet",
    _CILIUM,
    _ATTACHES_TC,
)
_STRICT_PERF = Caution(
    "nodes may set kernel.perf_event_paranoid above 1, so SYS_ADMIN is among the capabilities; OBI v0.14.0 and later "
    "do without it, and so do nodes where it is set to 1",
    _SECURITY,
)

_PRESETS: Mapping[PresetName, Preset] = {
    preset.name: preset
    for preset in (
        Preset(PresetName.DEVELOPMENT, Environment.DEVELOPMENT),
        Preset(PresetName.PRODUCTION),
        Preset(
            PresetName.AWS,
            settings=(
                Setting(
                    "affinity",
                    _nodes_without("eks.amazonaws.com/compute-type", "fargate"),
                    "Fargate runs no DaemonSets and no privileged containers: its nodes would stay Pending",
                    _FARGATE,
                ),
            ),
            cautions=(
                Caution(
                    "pods on Fargate are not instrumented: it runs no DaemonSets, and as a sidecar OBI gets no "
                    "privileges there either",
                    _FARGATE,
                ),
                _STRICT_PERF,
            ),
            paranoid=3,
        ),
        Preset(PresetName.GCP, settings=(_TCX,), cautions=(_CILIUM_CAUTION, _COS_CAUTION)),
        Preset(
            PresetName.GCP_AUTOPILOT, settings=(_TCX,), cautions=(*_AUTOPILOT_CAUTIONS, _CILIUM_CAUTION, _COS_CAUTION)
        ),
        Preset(
            PresetName.AZURE,
            settings=(
                Setting(
                    "tolerations",
                    [
                        {
                            "key": "kubernetes.azure.com/scalesetpriority",
                            "operator": "Equal",
                            "value": "spot",
                            "effect": "NoSchedule",
                        }
                    ],
                    "spot node pools have this taint, and what runs there is to be seen, too",
                    _SPOT,
                ),
            ),
            cautions=(
                Caution("pods on virtual nodes are not instrumented: DaemonSets do not run there", _VIRTUAL_NODES),
                _STRICT_PERF,
            ),
            paranoid=3,
        ),
        Preset(
            PresetName.BOTTLEROCKET,
            settings=(
                Setting(
                    "privileged",
                    True,
                    "SELinux is enforcing and cannot be switched off; with single capabilities an eBPF agent was seen "
                    "to be refused there",
                    _LEAST_PRIVILEGE,
                ),
            ),
            cautions=(
                Caution(
                    "the kernel is locked down (integrity) on most variants, so OBI writes into no process there: no "
                    "Go context propagation and no log enricher, whatever the privileges",
                    _BOTTLEROCKET,
                    WRITES_MEMORY,
                ),
                Caution(
                    "a label of SELinux's (seLinuxOptions) is outside of this server's policy; privileged is not",
                    _BOTTLEROCKET,
                ),
            ),
        ),
        Preset(
            PresetName.OPENSHIFT,
            settings=(
                Setting(
                    "privileged",
                    True,
                    "SELinux is enforcing and refuses bpf() to a confined container (EACCES on every map)",
                    _SELINUX_BPF,
                ),
            ),
            cautions=(
                Caution(
                    "no pod comes up before OBI's service account may use a SecurityContextConstraints that allows "
                    "hostPID, host paths and privileged containers: `oc adm policy add-scc-to-user privileged -z "
                    "SERVICEACCOUNT -n NAMESPACE`; that object and its binding are outside of this server's policy",
                    _SCC_API,
                    forbids=True,
                ),
                Caution(
                    "where the cluster has a default node selector, the namespace needs the annotation "
                    'openshift.io/node-selector: ""; this server does not write it',
                    _NODE_SELECTOR,
                ),
            ),
        ),
    )
}
