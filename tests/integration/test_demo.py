"""The demo ends as it says: with steps left out where the machine has less, and with nothing left when interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.demo.place import PREFIX
from tests.sandbox.instance import state_root

ROOT = Path(__file__).resolve().parent.parent.parent
DEMO = (sys.executable, "-m", "tests.demo")

pytestmark = pytest.mark.integration


def left_behind(pid: int) -> list[str]:
    """What a demo of this process id would have left on the machine."""
    name = f"{PREFIX}{pid}"
    found = [str(path) for path in (state_root() / name, Path(f"/sys/fs/cgroup/obi-mcp-{name}")) if path.exists()]
    found += [str(path) for path in Path("/run/netns").glob(f"obi-mcp-{name}*")]
    return found + list(_processes_of(str(state_root() / name)))


def _processes_of(directory: str) -> Iterator[str]:
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # no process, or one that has ended meanwhile
            continue
        if directory in words:
            yield f"process {entry.name}: {words[:200]}"


def test_without_a_real_node_the_steps_that_need_one_are_left_out_and_say_why() -> None:
    with subprocess.Popen([*DEMO, "--no-real-node"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as demo:
        printed, _ = demo.communicate()
    assert demo.returncode == 0, printed
    lines = printed.splitlines()
    left_out = [lines[number - 1].strip() for number, line in enumerate(lines) if line.startswith("    LEFT OUT: ")]
    assert left_out == [
        "4. OBI's own metrics, through the API server's pod proxy",
        "5. The flow metric against bytes that were really sent",
        "23. Metrics of all its pods, merged",
        "25. One that is valid and breaks the pods is planned",
        "26. and taken back, because they do not become ready",
    ]
    assert all("simulated nodes alone" in line for line in lines if line.startswith("    LEFT OUT: "))
    assert left_behind(demo.pid) == []


@pytest.mark.parametrize(
    ("number", "when"),
    [(signal.SIGTERM, "API server ready"), (signal.SIGINT, "The tools that the server offers")],
)
def test_an_interrupted_demo_leaves_nothing(number: signal.Signals, when: str) -> None:
    with subprocess.Popen([*DEMO], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if when in line:
                os.kill(demo.pid, number)
                break
        rest = demo.stdout.read()
    assert demo.returncode == 130, rest
    assert "done: " not in rest
    assert left_behind(demo.pid) == []


def test_what_a_killed_demo_left_is_taken_down_by_the_next() -> None:
    with subprocess.Popen([*DEMO, "--no-real-node"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        for line in killed.stdout:
            if "API server ready" in line:
                killed.kill()
                break
    assert left_behind(killed.pid) != []
    following = subprocess.run([*DEMO, "--no-real-node"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert following.returncode == 0, following.stdout + following.stderr
    assert f"taking down {PREFIX}{killed.pid}" in following.stdout
    assert left_behind(killed.pid) == []


def test_an_unknown_context_fails_and_names_the_step() -> None:
    done = subprocess.run([*DEMO, "--context", "no-such"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "FAILED: step 2, OBI's pods, through jq" in done.stderr
