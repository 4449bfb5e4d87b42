"""Values of the chart as tools ask for them: a preset, what the installation is to do, and the caller's own on top."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from obi_mcp.enforcer.model import Call
from obi_mcp.errors import InvalidDocument
from obi_mcp.obi.capabilities import Feature
from obi_mcp.obi.chart.names import PresetName
from obi_mcp.policy.yaml_writer import to_yaml
from obi_mcp.toolsets.base import Schema, Services, ToolCall
from obi_mcp.toolsets.kubernetes.generate import INSTALL, judged, requested_install

if TYPE_CHECKING:
    from obi_mcp.obi.chart.presets import Caution, Setting
    from obi_mcp.obi.manifests.install import Install

MAX_VALUES = 262_144
_SHARED = ("image", "otlp_endpoint", "prometheus_port", "privileged", "config", "k8s_cache")
VALUES: dict[str, Schema] = {
    "preset": {"type": "string", "enum": [str(entry) for entry in PresetName]},
    "features": {
        "type": "array",
        "items": {"type": "string", "enum": [str(entry) for entry in Feature]},
        "default": ["application"],
    },
    **{name: INSTALL[name] for name in (*_SHARED, "service_monitor")},
    "app_version": {**INSTALL["version"], "description": "OBI's version."},
    "values": {"type": "string", "maxLength": MAX_VALUES, "description": "YAML, merged over the others."},
}
"""What makes values: the arguments of ``requested_values``, besides ``release`` and ``namespace``."""

PLACE: dict[str, Schema] = {
    "release": {"type": "string", "maxLength": 53, "default": "obi"},
    "namespace": INSTALL["namespace"],
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Values that were asked for.

    ``values`` are what is said beside the chart's defaults, ``document`` the same as YAML for ``--values -`` (empty
    where there is nothing to say). ``complete``: every value that the installation decides.
    """

    install: Install
    values: Mapping[str, Any]
    complete: Mapping[str, Any]
    settings: tuple[Setting, ...] = ()
    warnings: tuple[Caution, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def document(self) -> str:
        """The values as YAML."""
        return to_yaml(dict(self.values)) if self.values else ""

    def as_json(self) -> dict[str, Any]:
        """What is to be known about them."""
        settings = [{"path": s.path, "value": s.value, "why": s.why, "source": s.source} for s in self.settings]
        warnings = [{"text": w.text, "source": w.source, "blocks": w.forbids} for w in self.warnings]
        return {"settings": settings, "warnings": warnings, "notes": list(self.notes)}

    @property
    def lines(self) -> tuple[str, ...]:
        """The same as text, a line each."""
        return (
            *(f"{'does not run' if w.forbids else 'warning'}: {w.text} ({w.source})" for w in self.warnings),
            *(f"{s.path}: {s.why} ({s.source})" for s in self.settings),
            *self.notes,
        )


def requested_values(services: Services, given: Mapping[str, Any], *, preset: str | None = None) -> Wanted:
    """The values that these arguments ask for; ``preset`` counts where they name none. Without any of ``VALUES`` they
    are the chart's own.

    Raises: InvalidArgument; InvalidDocument for values that are none, or that a chart could run as a template.
    """
    from obi_mcp.obi.chart.presets import preset_of
    from obi_mcp.obi.chart.values import overrides

    own = _own(given.get("values"))
    name = given.get("preset", preset)
    if name is None and not any(key in given for key in VALUES if key != "values"):
        install = _install(services, {key: given[key] for key in PLACE if key in given})
        return _judged(Wanted(install, own, own))
    chosen = preset_of(name or PresetName.PRODUCTION)
    install = chosen.install(_install(services, given))
    complete = chosen.values(install)
    return _judged(
        Wanted(
            install,
            _over(overrides(complete), own),
            _over(complete, own),
            chosen.applied(install),
            chosen.warnings(install),
            (*judged(install), *_unserved(complete)),
        )
    )


async def refusals(services: Services, call: ToolCall, tool: str, wanted: Wanted, chart: str) -> tuple[str, ...]:
    """What this server's own policy would refuse of them, with what would have to allow it. Runs nothing."""
    from obi_mcp.obi.manifests.objects import installed_objects
    from obi_mcp.obi.manifests.render import stream

    where = f"{wanted.install.name} {chart} -n {wanted.install.namespace}"
    asked = (
        Call(f"helm template {where} --values -", tool, stdin=wanted.document or "{}\n", caller=call.caller),
        Call("kubectl apply -f - --dry-run=server", tool, stdin=stream(installed_objects(wanted.install))),
    )
    said = []
    for question in asked:
        decision = await asyncio.to_thread(services.enforcer.explain, question)
        if not decision.allowed:
            hint = f"; {decision.hint}" if decision.hint else ""
            said.append(f"this server would refuse to install it: {decision.reason}{hint}")
    return tuple(dict.fromkeys(said))


def _unserved(values: Mapping[str, Any]) -> tuple[str, ...]:
    from obi_mcp.obi.chart.values import metrics_port

    if metrics_port(values["config"]) is not None:
        return ()
    return (
        "no metrics are served: the chart declares the port, the readiness probe and the Service that "
        "config.prometheus_export.port (v1) asks for",
    )


def _install(services: Services, given: Mapping[str, Any]) -> Install:
    named = {"release": "name", "app_version": "version"}
    known = {named.get(key, key): value for key, value in given.items() if key in {*VALUES, *PLACE}}
    return requested_install(services, known)


def _own(text: str | None) -> dict[str, Any]:
    from obi_mcp.policy.values import read_values

    if text is None:
        return {}
    try:
        return read_values(text)
    except ValueError as error:
        raise InvalidDocument(str(error), "give values as one YAML mapping") from None


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """As helm merges two files of values; a null stays, because it takes away what the chart has."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _over(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _judged(wanted: Wanted) -> Wanted:
    from obi_mcp.policy.values import judge_values

    for violation in judge_values(wanted.values):
        raise InvalidDocument(f"{violation.path}: {violation.reason}", violation.hint or "", path=violation.path)
    return wanted
