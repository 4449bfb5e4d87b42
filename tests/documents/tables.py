"""The tables of ``docs/troubleshooting/pods.md`` that are the product's own data.

``python -m tests.documents.tables`` writes them anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.documents.blocks import DOCS, ROOT

PAGE = DOCS / "troubleshooting" / "pods.md"
_DATA = ROOT / "policy" / "obi" / "symptoms.json"


def ends() -> str:
    """Why a container ended or waits, by the reason that Kubernetes gives."""
    rows = [(f"`{entry['reason']}`", entry["cause"], entry["way_out"], entry["source"]) for entry in _data()["ends"]]
    return _table(("reason", "why", "what to do", "known from"), rows)


def symptoms() -> str:
    """What a line of OBI's log means."""
    rows = [(_shown(entry), entry["cause"], entry["way_out"], entry["source"]) for entry in _data()["symptoms"]]
    return _table(("in the log", "why", "what to do", "known from"), rows)


def section(text: str, name: str) -> str | None:
    """What stands between the marks of a generated table."""
    found = re.search(rf"<!-- generated: {name} -->\n(?P<table>.*?)<!-- end -->", text, re.DOTALL)
    return found["table"] if found else None


def _shown(entry: Mapping[str, Any]) -> str:
    together = [f"`{text}`" for text in (*entry.get("says", ()), *entry.get("also", ()))]
    one_of = " or ".join(f"`{text}`" for text in entry.get("any", ()))
    if together and " or " in one_of:
        one_of = f"({one_of})"
    return " and ".join(part for part in (one_of, *together) if part).replace("|", "\\|")


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, ("---",) * len(head), *rows))


def _data() -> Mapping[str, Any]:
    data: Mapping[str, Any] = json.loads(_DATA.read_text(encoding="utf-8"))
    return data


def _parts() -> Iterator[tuple[str, str]]:
    yield "ends", ends()
    yield "symptoms", symptoms()


def write() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name, table in _parts():
        before, mark, rest = text.partition(f"<!-- generated: {name} -->\n")
        text = before + mark + table + rest[rest.index("<!-- end -->") :]
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
