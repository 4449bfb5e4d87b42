"""Where the OBI that runs sends its telemetry, held against ``scope.endpoints``: what is in use elsewhere has to be
configured, or the next change of OBI's configuration is refused. ``doctor`` prints the lines to add."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from obi_mcp.cli.findings import Finding
from obi_mcp.errors import InvalidDocument
from obi_mcp.policy.endpoint import judge_endpoint
from obi_mcp.policy.scope import Scope
from obi_mcp.policy.yaml_reader import read_stream

MAX_CONFIG_BYTES = 1_048_576


def endpoint_finding(subject: str, objects: Iterable[Mapping[str, Any]], scope: Scope) -> Finding:
    """The endpoints in DaemonSets, Deployments and ConfigMaps that the scope does not know."""
    foreign = sorted({value for body in objects for value in endpoints_of(body) if judge_endpoint(value, scope)})
    if not foreign:
        return Finding(subject, "ok", "OBI sends telemetry only where scope.endpoints and the cluster allow")
    listed = ", ".join(f'"{value}"' for value in [*scope.endpoints, *foreign])
    return Finding(
        subject,
        "note",
        f"OBI sends telemetry to {', '.join(foreign)}, which scope.endpoints does not list",
        f"if that is right, add to the configuration: scope: {{endpoints: [{listed}]}}",
    )


def endpoints_of(body: Mapping[str, Any]) -> Iterator[str]:
    """Every endpoint that a workload's environment or a ConfigMap's YAML names."""
    if body.get("kind") == "ConfigMap":
        for name, text in (body.get("data") or {}).items():
            if str(name).endswith((".yml", ".yaml")):
                yield from _in_config(str(text))
        return
    template = ((body.get("spec") or {}).get("template") or {}).get("spec") or {}
    for container in template.get("containers") or ():
        for variable in container.get("env") or ():
            if str(variable.get("name", "")).upper().endswith("_ENDPOINT") and variable.get("value"):
                yield str(variable["value"])


def _in_config(text: str) -> Iterator[str]:
    try:
        for _, _, data in read_stream(text, max_bytes=MAX_CONFIG_BYTES, max_documents=10, max_aliases=20):
            yield from _endpoints(data)
    except InvalidDocument:
        return  # what is no YAML is no endpoint; OBI itself will say more about it


def _endpoints(data: Any) -> Iterator[str]:
    if isinstance(data, dict):
        for key, value in data.items():
            if isinstance(value, str) and str(key).lower().endswith("endpoint"):
                yield value
            else:
                yield from _endpoints(value)
    elif isinstance(data, list):
        for item in data:
            yield from _endpoints(item)
