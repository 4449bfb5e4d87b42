"""The environment of OBI's containers: names that OBI reads, values that send nothing elsewhere."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from obi_mcp.policy.manifest.findings import Inspection

HOST_IP = "status.hostIP"
_REFERENCE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")
_BARE_ADDRESS = re.compile(r"(?P<host>[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?):[0-9]{1,5}")
_OWN_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
# The pod's own address is itself. Any other field is a name that must not become a host.
_FIELD_VALUES = {HOST_IP: "$(HOST_IP)", "status.podIP": "127.0.0.1"}


@dataclass(frozen=True, slots=True)
class EnvironmentNames:
    """``policy/obi/env-names.yaml``: what OBI reads, by version, and what its values mean."""

    versions: Mapping[str, frozenset[str]]
    beyla: frozenset[str]
    addresses: frozenset[str]
    config_paths: frozenset[str]
    credentials: frozenset[str]
    never: tuple[tuple[re.Pattern[str], str], ...]
    known: frozenset[str]
    """All names of all versions together."""

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> EnvironmentNames:
        """The names from schema-valid data."""
        both = {*data["names"]["both"], *data["standard"]}
        versions = {
            version: frozenset({*both, *names}) for version, names in data["names"].items() if version != "both"
        }
        known = frozenset().union(*versions.values(), data["credentials"])
        return cls(
            versions=versions,
            beyla=frozenset({*data["beyla"], *(_beyla(name) for name in known if name.startswith("OTEL_EBPF_"))}),
            addresses=_with_beyla(data["addresses"]),
            config_paths=frozenset(data["config_paths"]),
            credentials=frozenset(data["credentials"]),
            never=tuple((re.compile(entry["names"]), entry["because"]) for entry in data["never"]),
            known=known,
        )

    def read_by(self, image: str) -> frozenset[str]:
        """The names that the program in ``image`` reads: Beyla reads OBI's names and its own."""
        return self.known | self.beyla if is_beyla(image) else self.known

    def why_never(self, name: str) -> str | None:
        """Why the name is never set, or None."""
        return next((why for pattern, why in self.never if pattern.fullmatch(name)), None)


def is_beyla(image: str) -> bool:
    """Whether the image is one of Grafana Beyla's."""
    return "beyla" in image


def _beyla(name: str) -> str:
    return name.replace("OTEL_EBPF_", "BEYLA_", 1)


def _with_beyla(names: list[str]) -> frozenset[str]:
    return frozenset({*names, *(_beyla(name) for name in names)})


def environment(container: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """Check: every variable of the container has a name that OBI reads and a value that may be given to it."""
    variables: list[dict[str, Any]] = container.get("env") or []
    judge = _Environment(container["image"], variables, inspection)
    seen: set[str] = set()
    for position, variable in enumerate(variables):
        at = f"{path}.env[{position}]"
        if variable["name"] in seen:
            inspection.violate(
                "variable", f"the variable {variable['name']} is set twice", f"{at}.name", "keep one of them"
            )
        seen.add(variable["name"])
        judge.variable(variable, at)


def variables_of(container: Mapping[str, Any]) -> Iterator[tuple[int, str, str | None]]:
    """(position, name, literal value or None) of each variable."""
    for position, variable in enumerate(container.get("env") or []):
        yield position, variable["name"], variable.get("value")


class _Environment:
    """One container's variables; knows which of them are fields of the pod."""

    __slots__ = ("_fields", "_image", "_inspection", "_names")

    def __init__(self, image: str, variables: list[dict[str, Any]], inspection: Inspection) -> None:
        self._image = image
        self._inspection = inspection
        self._names = inspection.environment.read_by(image)
        # Where the pod does not declare it, the text stays as it is, and OBI finds it empty.
        self._fields = {"HOST_IP": HOST_IP}
        for variable in variables:
            source = variable.get("valueFrom") or {}
            if source.get("fieldRef"):
                self._fields[variable["name"]] = source["fieldRef"]["fieldPath"]

    def variable(self, variable: Mapping[str, Any], path: str) -> None:
        """Judge one variable."""
        name, value, source = variable["name"], variable.get("value"), variable.get("valueFrom")
        never = self._inspection.environment.why_never(name)
        if never is not None:
            self._violate(f"{name} may not be set: {never}", f"{path}.name", f"remove {name}")
        elif value is not None and source is not None:
            self._violate(f"{name} has both value and valueFrom", f"{path}.valueFrom", "keep one of them")
        elif source is not None:
            self._sourced(name, source, path)
        elif name not in self._names:
            self._unknown(name, path)
        else:
            self._valued(name, value or "", f"{path}.value")

    def _sourced(self, name: str, source: Mapping[str, Any], path: str) -> None:
        names = self._inspection.environment
        if source.get("secretKeyRef"):
            if name not in names.credentials:
                self._violate(
                    f"{name} comes from a secret, and OBI would send or print it",
                    f"{path}.valueFrom.secretKeyRef",
                    f"only {', '.join(sorted(names.credentials))} may",
                )
            return
        if name in names.addresses | names.config_paths or name in _value_judged():
            self._violate(f"{name} needs a value that can be judged", f"{path}.valueFrom", "write the value out")
        elif name == "HOST_IP" and (source.get("fieldRef") or {}).get("fieldPath") != HOST_IP:
            self._violate(f"HOST_IP is not the field {HOST_IP}", f"{path}.valueFrom", f"use fieldPath: {HOST_IP}")
        elif name not in self._names and not _OWN_NAME.fullmatch(name):
            self._unknown(name, path)

    def _valued(self, name: str, value: str, path: str) -> None:
        names = self._inspection.environment
        if name in names.credentials:
            hint = "take it from a secret that is listed in allowed_secrets"
            self._violate(f"{name} holds a credential in plain sight", path, hint)
            return
        expanded = self._expanded(name, value, path)
        if expanded is None:
            return
        match = _BARE_ADDRESS.fullmatch(expanded) if name in names.addresses else None
        if match is not None and match["host"] != "localhost":
            self._own_service(match["host"], path)
            return
        self._meaning(name, expanded, path)

    def _expanded(self, name: str, value: str, path: str) -> str | None:
        """The value with ``$(NAME)`` replaced by what the field of the pod stands for. None: refused."""
        for reference in _REFERENCE.findall(value):
            if reference not in self._fields:
                reason = f"{name} refers to $({reference}), which is not a field of the pod"
                hint = f"declare {reference} with valueFrom.fieldRef, or write the value out"
                self._violate(reason, path, hint)
                return None
        return _REFERENCE.sub(lambda match: _FIELD_VALUES.get(self._fields[match[1]], "a-field-of-the-pod"), value)

    def _meaning(self, name: str, value: str, path: str) -> None:
        """What the value says to OBI, by the rules for its configuration."""
        from obi_mcp.policy.config_schema import config_schema
        from obi_mcp.policy.telemetry_config import judge_variable

        plain = name.replace("BEYLA_", "OTEL_EBPF_", 1) if name.startswith("BEYLA_") else name
        if plain not in config_schema("v1").environment:
            return
        reason = judge_variable(plain, value, scope=self._inspection.scope)
        if reason is not None:
            self._violate(reason, path, "mend the value, or leave it out")

    def _own_service(self, host: str, path: str) -> None:
        """A bare name is looked up in the pod's own namespace first; so it has to be there, and OBI's."""
        self._inspection.need("v1", "Service", host, self._inspection.namespace, path)

    def _unknown(self, name: str, path: str) -> None:
        from difflib import get_close_matches

        if name.startswith("BEYLA_") and not is_beyla(self._image):
            self._violate(f"OBI never reads {name}", f"{path}.name", f"use {name.replace('BEYLA_', 'OTEL_EBPF_', 1)}")
            return
        near = get_close_matches(name[:80], self._names, n=1)
        hint = f"did you mean {near[0]}?" if near else "use OTEL_EBPF_* and OTEL_* names that OBI documents"
        self._violate(f"OBI reads no variable {name[:80]}", f"{path}.name", hint)

    def _violate(self, reason: str, path: str, hint: str) -> None:
        self._inspection.violate("variable", reason, path, hint)


def _value_judged() -> frozenset[str]:
    """Variables whose value says where telemetry goes or which file is read."""
    from obi_mcp.policy.config_schema import config_schema

    kinds = {"endpoint", "address", "file", "bpffs"}
    return frozenset(name for name, kind in config_schema("v1").environment.items() if kind in kinds)
