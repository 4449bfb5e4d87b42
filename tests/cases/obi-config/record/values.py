#!/usr/bin/env python3
"""Makes ``values-runs.json``: whether OBI's own reading and checking takes values of wrong types and words, key by key.

``values.py CHECKER``: ``check.go.txt`` built below ``cmd/`` of OBI's module, which reads a JSON line for each document
and answers with one. It does not start anything.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[4]
TARGET = ROOT / "tests/cases/obi-config/values-runs.json"
MAPPING = {"a": 1}
WRONG: dict[str, list[Any]] = {
    "int": ["zzwrong", "9090", 1.5, MAPPING],
    "bool": ["maybe", '"true"', 1],
    "duration": [2, "2", "abc", MAPPING],
    "ports": ["80-", "abc", "99999", MAPPING],
    "ip": ["zz"],
    "regex": ["([", 5],
    "number": ["abc"],
    "cidr": ["zz"],
    "interface": ["zz"],
    "propagation": ["zz"],
    "log level": ["chatty"],
    "endpoint": ["not a url", 5],
}


def main(checker: str) -> None:
    sys.path.insert(0, str(ROOT))
    from tests.unit.obi.test_broken import with_value

    model = json.loads((ROOT / "policy/obi/config-v1.json").read_text("utf-8"))
    asked = [(key, value) for key, kind in keys(model) for value in wrong(kind)]
    lines = [json.dumps({"Text": with_value(key, value)}) for key, value in asked]
    done = subprocess.run([checker], input="\n".join([*lines, ""]), capture_output=True, text=True, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('"')]
    found: dict[str, dict[str, bool]] = {}
    for (key, value), answer in zip(asked, answers, strict=True):
        found.setdefault(key, {})[json.dumps(value)] = answer == "OK"
    rows = [f" {json.dumps(key)}: {json.dumps(values)}" for key, values in sorted(found.items())]
    TARGET.write_text("\n".join(["{", ",\n".join(rows), "}", ""]), "utf-8")


def keys(model: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every dotted key with its type."""

    def below(name: str, prefix: str, above: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        for key, kind in model["shapes"][name].items():
            path, inner = prefix + key, kind
            yield path, kind
            while inner.startswith(("list ", "map ")):
                path += "[]" if inner.startswith("list ") else ".*"
                inner = inner.split(" ", 1)[1]
            if inner.startswith("@") and inner[1:] not in above:
                yield from below(inner[1:], f"{path}.", (*above, inner[1:]))

    yield from below(model["root"], "", ())


def wrong(kind: str) -> list[Any]:
    """Values that a key of that type should not have."""
    if kind.startswith(("@", "map ")):
        return ["text"]
    if kind.startswith("list "):
        return [["zzwrong"], "zzwrong", MAPPING] if kind.startswith("list enum") else ["zzwrong", MAPPING]
    return ["zzwrong", MAPPING, 5] if kind.startswith("enum") else WRONG.get(kind, [MAPPING, 5])


if __name__ == "__main__":
    main(sys.argv[1])
