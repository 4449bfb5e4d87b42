"""What OBI's pods use of processor and memory, against their limits.

Source of fact: Kubernetes' documentation of quantities.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from obi_mcp.obi.bodies import Object, at, name_of
from obi_mcp.obi.findings import Finding, Severity

NEAR = 0.9
"""The share of a limit from which it is near."""
_QUANTITY = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+))(?:(m|u|n|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)|[eE]([+-]?\d+))?")
_UNITS = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_UNITS |= {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}
_MEBI = 2.0**20
_NAMED_AT_MOST = 5


@dataclass(frozen=True, slots=True)
class PodUsage:
    """Of one pod, all containers together. Processor in thousandths of a core, memory in MiB; a limit is None where a
    container has none."""

    pod: str
    cpu_m: float
    memory_mib: float
    cpu_limit_m: float | None = None
    memory_limit_mib: float | None = None

    def as_json(self) -> dict[str, float]:
        """Rounded, without what is not known."""
        parts = {
            "cpu_m": round(self.cpu_m, 1),
            "memory_mib": round(self.memory_mib, 1),
            "cpu_limit_m": self.cpu_limit_m,
            "memory_limit_mib": self.memory_limit_mib,
        }
        return {name: value for name, value in parts.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Usage:
    """Of many pods. ``unknown`` says why there is none; None where there is."""

    pods: Mapping[str, PodUsage]
    unknown: str | None = None

    def of(self, names: Iterable[str]) -> dict[str, Any]:
        """What these pods use together: median and most, how many are known, and why not."""
        if self.unknown is not None:
            return {"unknown": self.unknown}
        known = [self.pods[name] for name in names if name in self.pods]
        if not known:
            return {"unknown": "the metrics API has nothing about these pods yet"}
        from statistics import median  # it brings fractions, decimals and random numbers with it

        cpu, memory = [one.cpu_m for one in known], [one.memory_mib for one in known]
        return {
            "pods": len(known),
            "cpu_m": {"median": round(median(cpu), 1), "max": round(max(cpu), 1)},
            "memory_mib": {"median": round(median(memory), 1), "max": round(max(memory), 1)},
        }


def usage_of(measured: Iterable[Object], pods: Sequence[Object]) -> Usage:
    """PodMetrics objects against the limits of the pods of the same names."""
    limits = {name_of(pod): pod for pod in pods}
    found = {}
    for entry in measured:
        used = [container.get("usage") or {} for container in entry.get("containers") or ()]
        name = name_of(entry)
        if used and name in limits:
            found[name] = PodUsage(
                name,
                sum(quantity(one.get("cpu", "0")) or 0.0 for one in used) * 1000,
                sum(quantity(one.get("memory", "0")) or 0.0 for one in used) / _MEBI,
                _limit(limits[name], "cpu", 1000),
                _limit(limits[name], "memory", 1 / _MEBI),
            )
    return Usage(found)


def near_limits(usage: Usage) -> list[Finding]:
    """Pods that use nearly all that they may."""
    found = []
    steps = {
        "memory": "raise limits.memory before the kernel kills them; an OBI whose memory grows all the time leaks",
        "cpu": "raise limits.cpu: an OBI that is throttled loses events",
    }
    shares = {
        "memory": {name: _share(one.memory_mib, one.memory_limit_mib) for name, one in usage.pods.items()},
        "cpu": {name: _share(one.cpu_m, one.cpu_limit_m) for name, one in usage.pods.items()},
    }
    for what, by_pod in shares.items():
        near = sorted((pod for pod, share in by_pod.items() if share >= NEAR), key=lambda pod: -by_pod[pod])
        if near:
            shown = ", ".join(f"{pod} {by_pod[pod]:.0%}" for pod in near[:_NAMED_AT_MOST])
            said = f"{len(near)} pods use {NEAR:.0%} or more of their {what} limit"
            found.append(Finding(f"usage.{what}", Severity.WARNING, said, shown, steps[what]))
    return found


def quantity(text: object) -> float | None:
    """A quantity of Kubernetes (``250m``, ``1.5Gi``, ``2e3``) as a number; None for what is none."""
    match = _QUANTITY.fullmatch(str(text))
    if match is None:
        return None
    return float(match[1]) * (_UNITS[match[2]] if match[2] else 10.0 ** int(match[3] or 0))


def _limit(pod: Object, name: str, scale: float) -> float | None:
    """All containers' together; None where one has none, and so the pod."""
    total = 0.0
    for container in at(pod, "spec", "containers") or ():
        value = quantity(at(container, "resources", "limits", name))
        if value is None:
            return None
        total += value
    return round(total * scale, 1)


def _share(used: float, limit: float | None) -> float:
    return used / limit if limit else 0.0
