"""``obi-mcp doctor`` and ``obi-mcp call`` against the real cluster."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.sandbox.sandbox import Sandbox

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
ENDED = [
    # what, the command, the exit code
    ("an answer", "kubectl get pods -A -o name | head -n 1", 0),
    ("a filter that finds nothing", "kubectl get pods -A -o name | grep nothing-has-this-name", 1),
    ("not there", "kubectl logs -n observability no-such-pod", 1),
    ("denied", "kubectl get secrets -n observability", 3),
]


def run(sandbox: Sandbox, programs_bin: Path, *argv: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ["HOME"],
        "PYTHONPATH": f"{ROOT}/server",
        "OBI_MCP_PROGRAMS__KUBECONFIG": str(sandbox.kubeconfig),
        "OBI_MCP_PROGRAMS__PATH": str(programs_bin),
        **more,
    }
    return subprocess.run(
        [sys.executable, "-m", "obi_mcp", *argv], env=environment, capture_output=True, text=True, check=False
    )


def test_doctor_finds_a_working_cluster(sandbox: Sandbox, programs_bin: Path) -> None:
    done = run(sandbox, programs_bin, "doctor", "--json")
    shown = json.loads(done.stdout)
    assert (done.returncode, shown["good"]) == (0, True), shown
    by_subject = {finding["subject"]: finding for finding in shown["findings"]}
    assert by_subject["kubectl version"]["evidence"].startswith("v1.")
    assert by_subject["helm version"]["evidence"].startswith("v4.")
    (cluster,) = [finding for subject, finding in by_subject.items() if subject.startswith("cluster ")]
    assert "answers; API server v1." in cluster["evidence"]
    (rights,) = [finding for subject, finding in by_subject.items() if subject.startswith("rights in ")]
    assert (rights["severity"], "everything" in rights["evidence"]) == ("note", True)
    (telemetry,) = [finding for subject, finding in by_subject.items() if subject.startswith("telemetry from ")]
    assert telemetry["severity"] == "ok"


def test_doctor_says_when_no_cluster_answers(sandbox: Sandbox, programs_bin: Path, tmp_path: Path) -> None:
    gone = tmp_path / "kubeconfig"
    gone.write_text(re.sub("https://[0-9.:]+", "https://127.0.0.1:1", sandbox.kubeconfig.read_text()))
    gone.chmod(0o600)
    done = run(sandbox, programs_bin, "doctor", "--kubeconfig", str(gone))
    assert done.returncode == 1
    assert "PROBLEM  cluster " in done.stdout
    assert "--network=host" in done.stdout


@pytest.mark.parametrize(("what", "command", "code"), ENDED, ids=[row[0] for row in ENDED])
def test_a_call_exits_with_how_it_ended(
    what: str, command: str, code: int, sandbox: Sandbox, programs_bin: Path
) -> None:
    done = run(sandbox, programs_bin, "call", "obi_kubectl", "--arg", f"command={command}")
    assert done.returncode == code, done.stderr
    assert bool(done.stdout) == (what == "an answer")
