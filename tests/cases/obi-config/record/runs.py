#!/usr/bin/env python3
"""Runs the configurations of ``broken.yaml`` on real programs and keeps what they did in ``broken-runs.json``.

``runs.py obi=/path/to/obi beyla=/path/to/beyla``: each in a network namespace of its own, with a fixed host id.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
sys.path.insert(0, str(ROOT))

from tests.unit.obi.broken import load  # noqa: E402
from tests.unit.obi.runs import namespaces, run  # noqa: E402


def main(arguments: list[str]) -> None:
    target = ROOT / "tests/cases/obi-config/broken-runs.json"
    kept = json.loads(target.read_text("utf-8")) if target.exists() else {}
    for argument in arguments:
        program, _, binary = argument.partition("=")
        cases = [case for case in load() if not (program == "obi" and case.program == "beyla")]
        with namespaces(4) as free, ThreadPoolExecutor(4) as pool:
            started = [pool.submit(run, binary, case.content, case.environment, free) for case in cases]
            ran = [each.result() for each in started]
        kept[program] = {
            case.name: {"outcome": each.outcome, "exit": each.exit_code, "says": each.says}
            for case, each in zip(cases, ran, strict=True)
        }
    target.write_text(json.dumps(kept, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
