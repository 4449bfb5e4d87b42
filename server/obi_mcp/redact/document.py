"""Which kind of object a YAML document is, as its lines pass: what is under ``data:`` of a Secret is secret."""

from __future__ import annotations

import re
from typing import Literal

from obi_mcp.redact.rules import RedactionRules

MAX_HELD_CHARACTERS = 1_048_576
_KIND = re.compile(r"(?P<lead>[ \t]*(?:-[ \t]+)?)kind:[ \t]*[\"']?(?P<kind>\w+)")
_DATA = re.compile(r"(?P<lead>[ \t]*)(?P<field>data|stringData):[ \t]*(?:#.*)?$")


class DocumentState:
    """Follows the lines that are looked at. Printers sort keys, so ``data:`` may come before ``kind:``; then the block
    is held until the kind is known."""

    __slots__ = ("_held", "_kind", "_rules", "_secret_column", "_size")

    def __init__(self, rules: RedactionRules) -> None:
        self._rules = rules
        self._kind = ""
        self._secret_column = -1
        self._held: list[str] = []
        self._size = 0

    @property
    def holding(self) -> bool:
        """Whether every further line has to be shown to ``see``."""
        return bool(self._held)

    def see(self, line: str) -> Literal["pass", "hold", "secret"]:
        """``hold``: it keeps the line; ``secret``: what stands below the line is a Secret's data."""
        if line.startswith("---"):
            self._kind, self._secret_column = "", -1
            return "pass"
        if match := _KIND.match(line):
            return self._see_kind(match)
        match = _DATA.match(line)
        if match is not None and not self._held:
            column = len(match["lead"])
            if match["field"] == "stringData" or column == self._secret_column:
                return "secret"
            if column == 0 and not self._kind:
                return self._hold(line)
        if self._held and self._size < MAX_HELD_CHARACTERS:
            return self._hold(line)
        return "pass"

    def release(self) -> tuple[bool, list[str]]:
        """The lines held back, and whether they are a Secret's data."""
        held, self._held, self._size = self._held, [], 0
        return self._kind in self._rules.secret_kinds, held

    def _hold(self, line: str) -> Literal["hold"]:
        self._held.append(line)
        self._size += len(line)
        return "hold"

    def _see_kind(self, match: re.Match[str]) -> Literal["pass", "hold"]:
        column = len(match["lead"])
        secret = match["kind"] in self._rules.secret_kinds
        if self._held and column > 0:
            return self._hold(match.string)
        if column == 0:
            self._kind = match["kind"]
        if secret:
            self._secret_column = column
        elif column == self._secret_column:
            self._secret_column = -1
        return "pass"
