"""What a namespace lets OBI's pods have: its quotas and limit ranges, against what the pods of a DaemonSet want.

Source of fact: Kubernetes' documentation of resource quotas and of limit ranges.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from obi_mcp.obi.bodies import Object, name_of
from obi_mcp.obi.findings import Finding, Severity
from obi_mcp.obi.usage import quantity

_BYTES = frozenset({"memory", "requests.memory", "limits.memory"})
_MEBI = 2.0**20
_RAISE = "have it raised by whoever owns the namespace, or use a namespace of OBI's own"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one pod asks for, as in ``resources`` of its only container, and how many pods are to be made."""

    pods: int
    requests: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)

    def of(self, resource: str) -> float | None:
        """How much of a quota's resource one pod takes; None where it has to say so and does not; 0.0 of others."""
        if resource in {"pods", "count/pods"}:
            return 1.0
        kind, _, name = resource.rpartition(".")
        if name not in {"cpu", "memory"} or kind not in {"", "requests", "limits"}:
            return 0.0
        # A container with a limit and no request requests its limit.
        given = self.limits if kind == "limits" else {**self.limits, **self.requests}
        return quantity(given[name]) if name in given else None


def quota_findings(quotas: Iterable[Object], wanted: Wanted) -> list[Finding]:
    """Quotas that do not let all of the pods in. One with scopes is about some pods only, and is left out."""
    found = []
    for quota in quotas:
        spec, status = quota.get("spec") or {}, quota.get("status") or {}
        if not wanted.pods or spec.get("scopes") or spec.get("scopeSelector"):
            continue
        hard: Mapping[str, str] = status.get("hard") or spec.get("hard") or {}
        for resource, most in sorted(hard.items()):
            used = str((status.get("used") or {}).get(resource, "0"))
            if said := _too_much(wanted, resource, str(most), used):
                what = f"the quota {name_of(quota)} {said}"
                found.append(Finding("quota", Severity.ERROR, what, f"{resource}: {used} of {most} used", _RAISE))
    return found


def limit_findings(ranges: Iterable[Object], wanted: Wanted) -> list[Finding]:
    """Limit ranges that do not let such a pod in."""
    found = []
    for bounds in ranges:
        for entry in (bounds.get("spec") or {}).get("limits") or ():
            if entry.get("type") in {"Container", "Pod"}:
                for said in _out_of(entry, wanted):
                    what = f"the limit range {name_of(bounds)} {said}"
                    found.append(Finding("limit-range", Severity.ERROR, what, str(entry["type"]), _RAISE))
    return found


def _too_much(wanted: Wanted, resource: str, most: str, used: str) -> str:
    each = wanted.of(resource)
    if each is None:
        return f"wants {resource} of every container, and OBI's has none"
    hard, taken = quantity(most), quantity(used)
    if hard is None or taken is None or each * wanted.pods <= hard - taken:
        return ""
    room = _shown(resource, max(hard - taken, 0.0))
    return f"leaves {room} of {resource}; {wanted.pods} more pods of OBI's want {_shown(resource, each * wanted.pods)}"


def _out_of(entry: Object, wanted: Wanted) -> Sequence[str]:
    said = []
    for name, limit in wanted.limits.items():
        most = (entry.get("max") or {}).get(name)
        if most is not None and (quantity(limit) or 0.0) > (quantity(most) or 0.0):
            said.append(f"allows at most {most} of {name}, and OBI's limit is {limit}")
    for name, request in wanted.requests.items():
        least = (entry.get("min") or {}).get(name)
        if least is not None and (quantity(request) or 0.0) < (quantity(least) or 0.0):
            said.append(f"wants at least {least} of {name}, and OBI requests {request}")
    return said


def _shown(resource: str, value: float) -> str:
    return f"{value / _MEBI:g}Mi" if resource in _BYTES else f"{value:g}"
