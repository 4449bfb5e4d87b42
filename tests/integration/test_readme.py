"""The README's first command, as it stands there, and that its excerpt is what the command prints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.demo.session import STEPS

ROOT = Path(__file__).resolve().parent.parent.parent
EXCERPT = re.compile(r"<!-- excerpt: make demo -->.*?```text\n(?P<text>.*?)```", re.DOTALL)
# What differs from run to run: names of pods, times, ports, hashes, the columns that follow from them.
_VARYING = re.compile(r"[0-9a-f]{64}|\b[0-9a-f]{20}\b|/tmp/\S+|\bobi-[a-z0-9]{5}\b|\d[\d.,]*| {2,}")

pytestmark = pytest.mark.integration


def shape(line: str) -> str:
    return _VARYING.sub("*", line.strip())


def test_make_demo_prints_what_the_readme_shows() -> None:
    # Set-up has been done, or this test would not run; doing it again would change the environment it runs in.
    command = ["make", "--silent", "--old-file=setup", "demo", f"VENV={sys.prefix}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    printed = {shape(line) for line in done.stdout.splitlines()}
    for number, step in enumerate(STEPS, 1):
        assert shape(f"{number}. {step.title}") in printed
    excerpt = EXCERPT.search((ROOT / "README.md").read_text(encoding="utf-8"))
    assert excerpt is not None
    shown = [line for line in excerpt["text"].splitlines() if line.strip() not in {"", "…"}]
    assert len(shown) > 20
    assert [line for line in shown if shape(line) not in printed] == []
