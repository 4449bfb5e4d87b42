"""What we say that Beyla does of a broken configuration is what the real Beyla does."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.integration.local_host import real_agent
from tests.unit.obi.broken import CASES, Broken, load
from tests.unit.obi.runs import Ran, namespaces, run

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

ROOT = Path(__file__).parents[2]
RUNS: dict[str, dict[str, Any]] = json.loads((CASES / "broken-runs.json").read_text("utf-8"))["beyla"]
# Those about Beyla itself, and of the others those that it ends with: they are over at once.
CHECKED = [case for case in load() if case.program == "beyla" or RUNS[case.name]["outcome"] != "starts"]
"""Where it goes on running, the kernel of the machine has a say in what it logs."""


@pytest.fixture(scope="module")
def ran() -> dict[str, Ran]:
    """Every configuration on the real program, four at a time, each in a network namespace."""
    binary = str(real_agent())
    with namespaces(4) as free, ThreadPoolExecutor(4) as pool:
        started = {
            case.name: pool.submit(
                run, binary, case.content, case.environment, free, ends=RUNS[case.name]["outcome"] != "starts"
            )
            for case in CHECKED
        }
        return {name: each.result() for name, each in started.items()}


@pytest.mark.parametrize("case", CHECKED, ids=lambda case: case.name)
def test_beyla_does_what_was_written_down(case: Broken, ran: dict[str, Ran]) -> None:
    kept = RUNS[case.name]
    assert (ran[case.name].outcome, ran[case.name].exit_code) == (kept["outcome"], kept["exit"]), ran[case.name].says
    if kept["outcome"] != "starts":
        assert ran[case.name].says == kept["says"]
