"""``get --raw`` of an OBI pod's own endpoint: proved here, and fetched by the warm channel, never by kubectl."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from obi_mcp.enforcer.case import Case, Proved, absent, failed, passed
from obi_mcp.policy.model import Check, RawSpec


async def prove_raw(case: Case, check: Check, spec: RawSpec) -> Proved:
    """The pod is OBI's, and the port is one that a container of it with an OBI image declares."""
    body = await case.cluster.get(case.members.pods(), spec.namespace, spec.pod)
    return Proved(absent(check)) if body is None else await prove_port(case, check, spec, body)


async def prove_port(case: Case, check: Check, spec: RawSpec, body: Mapping[str, Any]) -> Proved:
    """The same for a pod that has just been read."""
    ours = await case.members.containers(body)
    if not ours:
        return Proved(absent(check))
    declared = sorted({port for name in ours for port in _ports(body, name)})
    if spec.port not in declared:
        known = ", ".join(str(port) for port in declared) or "none"
        return Proved(
            failed(
                check,
                f"port {spec.port} is not declared by the OBI container of pod {spec.pod}",
                f"its OBI container declares: {known}",
            )
        )
    return Proved(passed(check, f"port {spec.port} is declared by OBI's container"))


def _ports(pod: Mapping[str, Any], container: str) -> list[int]:
    for entry in (pod.get("spec") or {}).get("containers") or ():
        if entry.get("name") == container:
            return [port["containerPort"] for port in entry.get("ports") or () if _is_tcp(port)]
    return []


def _is_tcp(port: Mapping[str, Any]) -> bool:
    return isinstance(port.get("containerPort"), int) and port.get("protocol", "TCP") == "TCP"


def raw_path(spec: RawSpec) -> str:
    """The API server's path of a pod's endpoint."""
    return f"/api/v1/namespaces/{spec.namespace}/pods/{spec.pod}:{spec.port}/proxy/{spec.path}"
