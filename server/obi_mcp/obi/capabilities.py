"""The Linux capabilities that OBI needs, by feature and kernel, each with where the fact is from.

Source of the table: runs of OBI v0.5.0 and Beyla v1.8.0 on Linux 6.18, the source of v0.12, OBI's documentation
("security" page) and public issues, collected by this project.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from obi_mcp.obi.finding import Program
from obi_mcp.obi.keys import numbers


class Feature(StrEnum):
    """What OBI can be asked for, as far as it changes what the kernel must allow."""

    APPLICATION = "application"
    NETWORK = "network"
    NETWORK_TC = "network-tc"
    TCP_STATS = "tcp-stats"
    CONTEXT_PROPAGATION = "context-propagation"
    GO_CONTEXT_PROPAGATION = "go-context-propagation"
    LOG_ENRICHER = "log-enricher"


@dataclass(frozen=True, slots=True)
class CapabilityFact:
    """Capabilities that something asks for. ``cause`` is a feature or a property of the kernel; ``source`` says how we
    know: run, source, doc or issue; ``why`` is one clause."""

    cause: str
    capabilities: tuple[str, ...]
    source: str
    why: str


@dataclass(frozen=True, slots=True)
class Needed:
    """The smallest set, in a stable order without the prefix ``CAP_``, and the facts that it follows from."""

    capabilities: tuple[str, ...]
    facts: tuple[CapabilityFact, ...]


OLDEST_KERNEL = (5, 8)
"""Below, only Red Hat's 4.18 with its back-ports runs OBI. Source: doc."""
_RELEASE = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")
NO_MEMLOCK_KERNEL = (5, 11)
"""From here on BPF maps count as memory of the control group, not as locked memory. Source: source."""
_STRICT_PERF = 3

_BY_FEATURE: dict[Feature, CapabilityFact] = {
    Feature.NETWORK: CapabilityFact(
        "network, socket_filter", ("BPF", "NET_RAW", "PERFMON"), "run, source", "v0.12 checks PERFMON besides"
    ),
    Feature.NETWORK_TC: CapabilityFact(
        "network, tc", ("BPF", "NET_ADMIN", "PERFMON"), "run, source", "it attaches to the interfaces"
    ),
    Feature.APPLICATION: CapabilityFact(
        "application",
        ("BPF", "DAC_READ_SEARCH", "CHECKPOINT_RESTORE", "PERFMON", "NET_RAW", "SYS_PTRACE"),
        "run, doc",
        "it reads other processes' executables and puts probes into them",
    ),
    Feature.CONTEXT_PROPAGATION: CapabilityFact(
        "context propagation", ("NET_ADMIN",), "source, doc", "it writes into what is sent"
    ),
    Feature.TCP_STATS: CapabilityFact(
        "TCP statistics", ("BPF", "SYS_PTRACE", "PERFMON", "NET_RAW"), "source", "v0.12 checks them"
    ),
    Feature.GO_CONTEXT_PROPAGATION: CapabilityFact(
        "Go context propagation", ("SYS_ADMIN",), "doc", "it writes user memory; the kernel must not be locked down"
    ),
    Feature.LOG_ENRICHER: CapabilityFact(
        "log enricher", ("SYS_ADMIN",), "doc", "it writes user memory; the kernel must not be locked down"
    ),
}
_CHECKED = ("BPF", "PERFMON", "DAC_READ_SEARCH", "NET_RAW")
_OF_BEYLA_1: dict[Feature, CapabilityFact] = {
    Feature.NETWORK: CapabilityFact("network, Beyla 1", _CHECKED, "run, source", "it checks them when it starts"),
    Feature.NETWORK_TC: CapabilityFact("network, Beyla 1", _CHECKED, "run, source", "it checks them when it starts"),
    Feature.APPLICATION: CapabilityFact(
        "application, Beyla 1", ("SYS_ADMIN",), "run, source", "it mounts a BPF file system"
    ),
}
_IMPLIED = {
    Feature.CONTEXT_PROPAGATION: (Feature.APPLICATION,),
    Feature.GO_CONTEXT_PROPAGATION: (Feature.APPLICATION, Feature.CONTEXT_PROPAGATION),
    Feature.LOG_ENRICHER: (Feature.APPLICATION,),
}
_ORDER = (
    "BPF",
    "PERFMON",
    "NET_RAW",
    "NET_ADMIN",
    "SYS_PTRACE",
    "DAC_READ_SEARCH",
    "CHECKPOINT_RESTORE",
    "SYS_RESOURCE",
    "SYS_ADMIN",
)


def kernel_of(release: str) -> tuple[int, int, int] | None:
    """The numbers of a kernel's release (``6.1.0-18-amd64``), a missing last one 0; None where it begins with none."""
    found = _RELEASE.match(release)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def too_old(release: str) -> bool:
    """Whether OBI cannot run on a kernel of that release, as far as its number tells."""
    number = kernel_of(release)
    return number is not None and number[:2] < OLDEST_KERNEL and ".el8" not in release


def needed(
    features: Iterable[Feature],
    *,
    kernel: tuple[int, int] | None = None,
    perf_event_paranoid: int | None = None,
    program: Program = "obi",
    version: str | None = None,
) -> Needed:
    """The capabilities for these features. ``kernel`` (major, minor), ``perf_event_paranoid`` of the nodes and the
    program's version where they are known; unknown ones are taken for recent and lenient."""
    asked = set(features)
    for feature in tuple(asked):
        asked.update(_IMPLIED.get(feature, ()))
    facts = [_BY_FEATURE[feature] for feature in Feature if feature in asked]
    if kernel is not None and kernel < OLDEST_KERNEL:
        facts.append(CapabilityFact("kernel < 5.8", ("SYS_ADMIN",), "source", "CAP_BPF does not exist there"))
    if kernel is not None and kernel < NO_MEMLOCK_KERNEL:
        facts.append(CapabilityFact("kernel < 5.11", ("SYS_RESOURCE",), "source", "BPF maps count as locked memory"))
    probes = bool(asked - {Feature.NETWORK, Feature.NETWORK_TC})
    if probes and perf_event_paranoid is not None and perf_event_paranoid >= _STRICT_PERF:
        facts.append(
            CapabilityFact(
                "perf_event_paranoid ≥ 3", ("SYS_ADMIN",), "issue, doc", "PERFMON does not open kprobes there"
            )
        )
    if program == "beyla" and (numbers(version) or (2,)) < (2,):
        facts += (fact for feature, fact in _OF_BEYLA_1.items() if feature in asked)
    names = {name for fact in facts for name in fact.capabilities}
    return Needed(tuple(name for name in _ORDER if name in names), tuple(facts))
