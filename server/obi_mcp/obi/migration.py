"""A v1 configuration as v2, as far as v2's place for a key is known; the rest is reported, never guessed.

Unlike OBI's own ``config migrate`` it leaves ``${VAR}`` as it stands, so no secret gets into the result, and it
writes only what the document says, not every default. Source of fact: ``policy/obi/moves.json`` and its origin.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from obi_mcp.errors import InvalidDocument
from obi_mcp.obi.config import Mode, is_misfit, validate
from obi_mcp.obi.config_text import read_config, write_config
from obi_mcp.obi.migrated import Migration, Origin, Unmoved
from obi_mcp.obi.moves import known_moves
from obi_mcp.obi.pipelines import move_pipelines
from obi_mcp.obi.predecessor import is_predecessors, migrate_predecessor
from obi_mcp.obi.renaming import migrate_beyla, migrate_environment, only_beylas
from obi_mcp.obi.selectors import move_selectors
from obi_mcp.policy.config_schema import Path, dotted, version_of

__all__ = ["Migration", "Unmoved", "detect", "migrate", "migrate_environment"]

OBI = "extensions.obi"
_PROTOCOLS = ("http", "grpc", "sql", "redis", "kafka", "mongo", "couchbase", "gpu")
_STATS = {
    "stats": ("tcp_rtt", "tcp_failed_connections", "tcp_retransmits"),
    "stats_tcp_rtt": ("tcp_rtt",),
    "stats_tcp_failed_connections": ("tcp_failed_connections",),
    "stats_tcp_retransmits": ("tcp_retransmits",),
    "stats_tcp_io": ("tcp_io",),
}
_PAYLOADS = ("graphql", "elasticsearch", "aws", "sqlpp", "jsonrpc", "enrichment")
_GENAI = ("openai", "anthropic", "gemini", "qwen", "bedrock", "mcp", "embedding", "rerank", "retrieval", "ollama")
_KUBERNETES_MODE = {"true": "enabled", "false": "disabled", "autodetect": "autodetect"}


def migrate(
    text: str,
    *,
    mode: Mode = "standalone",
    source: Origin | Literal["auto"] = "auto",
    environment: Mapping[str, str] | None = None,
) -> Migration:
    """A configuration as today's: v1 as v2, Beyla's and the TypeScript obi-mcp's as OBI's v1 or this server's.

    ``source``: what the text is; ``auto`` looks. ``environment``: variables to be renamed along with it.
    """
    read = read_config(text)
    if read.problems:
        first = read.problems[0]
        return Migration(problem=f"line {first.line}, column {first.column}: {first.message}")
    if not isinstance(read.data, dict | None):
        return Migration(problem="a configuration is a mapping of keys to values")
    data = read.data or {}
    found = _origin(data, mode)
    origin = found if source == "auto" or found == "v2" else source
    variables = environment or {}
    if origin == "v2":
        return Migration(problem=f"the document is already a {mode} v2 configuration", source="v2")
    try:
        if origin == "beyla":
            return migrate_beyla(text, variables)
        if origin == "ts-obi-mcp":
            return migrate_predecessor(text, variables)
    except InvalidDocument as error:
        return Migration(problem=error.message, source=origin)
    # INVARIANT: the parts of a migration rely on every known key having a value of its type.
    wrong = next((finding for finding in validate(text, mode=mode) if is_misfit(finding)), None)
    if wrong is not None:
        return Migration(problem=str(wrong))
    moved = _Migration(copy.deepcopy(data), mode, read.places).run()
    renamed, left = migrate_environment(variables)
    return replace(moved, environment=renamed, unmoved=(*moved.unmoved, *left))


def detect(text: str) -> Origin | None:
    """What a text is: ``v1``, ``v2``, ``beyla`` or ``ts-obi-mcp``; None where it is no mapping."""
    data = read_config(text).data
    return _origin(data, "standalone") if isinstance(data, dict) else None


def _origin(data: dict[str, Any], mode: Mode) -> Origin:
    if version_of(data) == "v2" or (mode == "receiver" and "version" in data):
        return "v2"
    if mode == "receiver":
        return "v1"
    if is_predecessors(data):
        return "ts-obi-mcp"
    return "beyla" if any(only_beylas(data)) else "v1"


class _Migration:
    """One document on its way: keys are taken out of ``left``, and what is still there at the end was not moved."""

    def __init__(self, data: dict[str, Any], mode: Mode, places: Mapping[Path, tuple[int, int]]) -> None:
        self._left = data
        self._places = places
        self._mode: Mode = mode
        self._made: dict[str, Any] = {}
        self._why: dict[str, str] = dict(known_moves().nowhere)
        self._notes: list[str] = []

    def run(self) -> Migration:
        selected = move_selectors(self)
        self._features(selected)
        self._payloads()
        self._kubernetes()
        self._runtimes()
        self._cidrs()
        self._resource()
        self._log_level()
        if self._mode == "standalone":
            move_pipelines(self)
        for key, target in known_moves().moves.items():
            self.move(key, target)
        for key, targets in known_moves().copies.items():
            self.move(key, *targets)
        unmoved = tuple(
            Unmoved(dotted(path), self._reason(dotted(path)), self._line(path)) for path in _leaves(self._left, ())
        )
        return Migration(write_config(self._document()), unmoved, tuple(self._notes))

    # --- what the parts of a migration use ---

    def peek(self, key: str) -> Any:
        """A value of the document that is still there."""
        value: Any = self._left
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def take(self, key: str) -> Any:
        """The same, and it counts as moved. Mappings that are empty then disappear with it."""
        value = self.peek(key)
        if value is not None:
            _drop(self._left, key.split("."))
        return value

    def put(self, target: str, value: Any) -> bool:
        """Writes a v2 key (``~`` is extensions.obi). False where this mode has no such place."""
        parts = target.replace("~", OBI, 1).split(".")
        if self._mode == "receiver" and parts[:3] != ["extensions", "obi", "capture"]:
            return False
        place = self._made
        for part in parts[:-1]:
            place = place.setdefault(part, {})
        place[parts[-1]] = value
        return True

    def move(self, key: str, *targets: str) -> None:
        """Puts the value of a v1 key where it belongs in v2, if it is there."""
        value = self.peek(key)
        if value is not None and all(self.put(target, copy.deepcopy(value)) for target in targets):
            self.take(key)

    def keep(self, key: str, reason: str) -> None:
        """Says why a key stays behind."""
        self._why[key] = reason

    def note(self, text: str) -> None:
        """Something to look at in the result."""
        self._notes.append(text)

    # --- parts ---

    def _features(self, selected: bool) -> None:
        """``metrics.features``: protocols, network flows and network statistics."""
        features = self.peek("metrics.features")
        if not isinstance(features, list):
            return
        exported = bool(self.peek("otel_metrics_export.endpoint") or self.peek("prometheus_export.port"))
        beyond = [name for name in features if name == "network" or name in _STATS]
        unknown = [str(name) for name in features if name != "application" and name not in beyond]
        if unknown:
            self.keep("metrics.features", f"v2 cannot say {', '.join(unknown)}; the others of the list were moved")
        elif beyond and not exported and self.peek("network.enable") is not True:
            self.keep("metrics.features", "without a metrics exporter v1 leaves the network alone, and v2 does not")
            return
        else:
            self.take("metrics.features")
        if selected and not any(str(name).startswith(("application", "*", "all")) for name in features):
            for protocol in _PROTOCOLS:
                self.put(f"~.capture.instrumentation.{protocol}.enabled.metrics", False)
        if "network" in beyond:
            self.take("network.enable")
            self.put("~.capture.network.capture.enabled", True)
        stats = [part for name in beyond for part in _STATS.get(name, ())]
        if stats:
            self.put("~.capture.network.stats.enabled", True)
            self.put("~.capture.network.stats.features", list(dict.fromkeys(stats)))

    def _payloads(self) -> None:
        """One ``enabled`` for each extractor becomes one list."""
        http = "ebpf.payload_extraction.http"
        keys = {name: f"{http}.{name}.enabled" for name in _PAYLOADS}
        keys |= {name: f"{http}.genai.{name}.enabled" for name in (*_GENAI, "openai_compatible")}
        said = {name: self.take(key) for name, key in keys.items()}
        if any(value is not None for value in said.values()):
            enabled = [name for name, value in said.items() if value is True]
            self.put("~.capture.instrumentation.http.payload_extraction.enabled", enabled)

    def _kubernetes(self) -> None:
        mode = self.peek("attributes.kubernetes.enable")
        word = _KUBERNETES_MODE.get(str(mode).lower())
        if word is not None and self.put("~.enrich.enrichers.kubernetes.mode", word):
            self.take("attributes.kubernetes.enable")

    def _runtimes(self) -> None:
        skip = self.peek("discovery.skip_go_specific_tracers")
        if isinstance(skip, bool):
            self.put("~.capture.runtimes.go.enabled", not skip)
            self.take("discovery.skip_go_specific_tracers")

    def _cidrs(self) -> None:
        for section, place in (("network", "capture"), ("stats", "stats")):
            cidrs = self.peek(f"{section}.cidrs")
            if isinstance(cidrs, list):
                named = [cidr if isinstance(cidr, dict) else {"cidr": cidr} for cidr in cidrs]
                self.put(f"~.capture.network.{place}.selection.cidrs", named)
                self.take(f"{section}.cidrs")

    def _resource(self) -> None:
        keys = {"host.name": "attributes.instance_id.override_hostname", "host.id": "attributes.host_id.override"}
        found = [{"name": name, "value": str(self.peek(key))} for name, key in keys.items() if self.peek(key)]
        if found and self.put("resource.attributes", found):
            for key in keys.values():
                self.take(key)

    def _log_level(self) -> None:
        level = self.peek("log_level")
        if isinstance(level, str) and self.put("log_level", level.lower()):
            self.take("log_level")

    # --- the end ---

    def _reason(self, key: str) -> str:
        """The reason of the key itself, or of the nearest key above it."""
        parts = key.split(".")
        for length in range(len(parts), 0, -1):
            reason = self._why.get(re.sub(r"\[[^]]*\]", "", ".".join(parts[:length])))
            if reason is not None:
                return reason
        if self._mode == "receiver":
            return "not part of the receiver's body: the Collector's pipelines and processors own it, or nothing does"
        return "no place for it in v2 is known"

    def _line(self, path: Path) -> int | None:
        return next(
            (self._places[path[:end]][0] for end in range(len(path), 0, -1) if path[:end] in self._places), None
        )

    def _document(self) -> dict[str, Any]:
        capture = self._made.get("extensions", {}).get("obi", {}).get("capture", {})
        if self._mode == "receiver":
            return {"version": "2.0", **capture}
        obi = {"version": "2.0", **self._made.get("extensions", {}).get("obi", {})}
        document: dict[str, Any] = {"file_format": "1.0"}
        for key in ("log_level", "resource", "tracer_provider", "meter_provider"):
            if key in self._made:
                document[key] = self._made[key]
        document["extensions"] = {"obi": obi}
        return document


def _drop(data: dict[str, Any], parts: list[str]) -> None:
    below = data[parts[0]]
    if len(parts) > 1:
        _drop(below, parts[1:])
    if len(parts) == 1 or not below:
        del data[parts[0]]


def _leaves(value: Any, path: Path) -> Iterator[Path]:
    """The keys that are left, down to values; a list of mappings by its items, an empty mapping not at all."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _leaves(below, (*path, key))
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    elif value is not None:
        yield path
