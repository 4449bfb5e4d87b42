"""The broken configurations of ``broken.yaml``, the long ones made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from obi_mcp.obi.finding import Program

CASES = Path(__file__).parents[2] / "cases" / "obi-config"


@dataclass(frozen=True, slots=True)
class Broken:
    """One case: what is wrong, what must be found first, and what the program does of it."""

    name: str
    content: bytes
    environment: dict[str, str] | None
    program: Program
    version: str | None
    key: str
    line: int
    case: str
    near: str | None
    does: str
    mark: str

    @property
    def text(self) -> str | bytes:
        """As text where it is any."""
        try:
            return self.content.decode()
        except UnicodeDecodeError:
            return self.content


def load() -> list[Broken]:
    """All cases, in the order of the file."""
    return [_case(entry) for entry in yaml.safe_load((CASES / "broken.yaml").read_text("utf-8"))]


def _case(entry: dict[str, Any]) -> Broken:
    return Broken(
        name=entry["name"],
        content=_content(entry),
        environment=entry.get("environment"),
        program=entry.get("program", "obi"),
        version=entry.get("version"),
        key=entry["key"],
        line=entry["line"],
        case=entry["case"],
        near=entry.get("near"),
        does=entry["does"],
        mark=entry["mark"],
    )


def _content(entry: dict[str, Any]) -> bytes:
    if "file" in entry:
        return (CASES / f"{entry['file']}.yaml").read_bytes()
    return MADE[entry["make"]] if "make" in entry else str(entry["text"]).encode()


_START = b"open_port: 80\ntrace_printer: text\n"


def _laughs() -> bytes:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for before, after in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]")
    return _START + "\n".join(lines).encode() + b"\n"


MADE = {
    "laughs": _laughs(),
    "latin1": b"open_port: 80\ntrace_printer: text # caf\xe9\n",
    "huge": _START + b"# a comment of sixty-four bytes, again and again, to the end.\n" * 85_000,
    "deep": _START + b"service_name: x\n".replace(b"service_name: x", b"zzz: " + b"[" * 200 + b"]" * 200),
}
