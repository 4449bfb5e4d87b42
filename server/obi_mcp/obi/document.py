"""A configuration on its way through the checks: its values with the variables over them, and where findings stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from obi_mcp.obi.config_text import ConfigText
from obi_mcp.obi.effects import effect_of
from obi_mcp.obi.finding import ConfigFinding, Program, Severity
from obi_mcp.obi.keys import known_keys
from obi_mcp.policy.config_schema import ConfigSchema, Path, config_schema, dotted, version_of

Mode = Literal["standalone", "receiver"]
MODES: tuple[Mode, ...] = ("standalone", "receiver")

_WARNS = ("deprecated", "beyla", "secret", "value.pattern", "version.gone", "version.unclear")
_WARNS_ABOUT = (
    "environment.beyla",
    "environment.unknown",
    "environment.version",
    "environment.unset",
    "environment.v2",
)


@dataclass(frozen=True, slots=True)
class Document:
    """One configuration. ``environment`` is None where nobody said what is set; ``data`` is empty where the text is no
    mapping."""

    read: ConfigText
    environment: Mapping[str, str] | None
    version: str | None
    mode: Mode
    program: Program
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def is_v2(self) -> bool:
        """Whether the declarative form is used; a receiver's body says only its version."""
        return version_of(self.data) == "v2" or self.is_receiver_v2

    @property
    def is_receiver_v2(self) -> bool:
        """A Collector receiver's body in the new form."""
        return self.mode == "receiver" and "version" in self.data

    @property
    def schema(self) -> ConfigSchema:
        """The keys that this form has."""
        return config_schema("v2" if self.is_v2 else "v1")

    def written(self, key: str) -> Any:
        """The value in the text; None where it is not there."""
        value: Any = self.data
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def value(self, key: str) -> Any:
        """The value that holds: a variable that the program reads for the key wins, unless it is empty."""
        for name in known_keys().variable_of(key, self.program, self.version) if self.environment else ():
            if self.environment and self.environment.get(name):
                return self.environment[name]
        return self.written(key)

    def variable(self, name: str) -> str:
        """A variable's text, empty where it is not set or not known."""
        return (self.environment or {}).get(name, "")

    def at(self, case: str, key: str, message: str, hint: str | None = None, **more: Any) -> ConfigFinding:
        """A finding at a dotted key without indexes; empty: at the whole document."""
        return self.place(case, tuple(key.split(".")) if key else (), message, hint, **more)

    def place(self, case: str, path: Path, message: str, hint: str | None = None, **more: Any) -> ConfigFinding:
        """A finding at a path, with what the program does of it. ``more``: expected, nearest."""
        return self.finding(case, dotted(path), self.read.places.get(path, (1, 1)), message, hint, **more)

    def about(self, case: str, name: str, message: str, hint: str | None = None, **more: Any) -> ConfigFinding:
        """A finding about an environment variable."""
        return self.finding(case, name, (0, 0), message, hint, **more)

    def finding(
        self, case: str, key: str, place: tuple[int, int], message: str, hint: str | None, **more: Any
    ) -> ConfigFinding:
        """Any finding; ``rule`` is the first word of its case."""
        doubtful = case in _WARNS_ABOUT or any(case == word or case.startswith(f"{word}.") for word in _WARNS)
        severity: Severity = "warning" if doubtful else "error"
        effect = effect_of(case, key, program=self.program, config="v2" if self.is_v2 else "v1")
        return ConfigFinding(
            case.partition(".")[0], severity, key, *place, message, hint, case=case, effect=effect, **more
        )
