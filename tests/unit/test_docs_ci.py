"""The CI examples of docs/ci, run as they stand; only ``docker run … IMAGE`` is this checkout's server."""

from __future__ import annotations

import json
import os
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from tests.bundle.ci_steps import EXAMPLES, ROOT, environment_with, github_steps, gitlab_jobs, local_docker

PROGRAMS = f"{ROOT}/.venv/bin:{os.environ['PATH']}"
RUNBOOK = "May every command of the runbook run?"
KUBECONFIG = "Put the kubeconfig where only we can read it"
VERIFY = "Does OBI run on every node, and does telemetry come out?"
DEAD = json.dumps(
    {
        "current-context": "a",
        "clusters": [{"name": "a", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "a", "user": {"token": "t"}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
    }
)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return environment_with(local_docker(tmp_path / "docker-bin", programs=PROGRAMS), tmp_path)


def test_the_examples_have_the_steps_that_are_tested() -> None:
    assert list(github_steps()) == [RUNBOOK, KUBECONFIG, VERIFY]
    assert list(gitlab_jobs()) == ["runbook", "deployment"]


def test_github_annotates_the_lines_of_the_runbook(tmp_path: Path, environment: dict[str, str]) -> None:
    summary = tmp_path / "summary.md"
    summary.touch()
    environment["GITHUB_STEP_SUMMARY"] = str(summary)
    step = github_steps()[RUNBOOK]
    good = step.run(tmp_path, environment)
    assert (good.returncode, "::error" in good.stdout, good.stderr) == (0, False, "")
    with (tmp_path / "ops" / "runbook.txt").open("a") as runbook:
        runbook.write("kubectl delete ns observability\n")
    line = len((tmp_path / "ops" / "runbook.txt").read_text().splitlines())
    bad = step.run(tmp_path, environment)
    assert bad.returncode == 3
    assert re.findall(r"^::error (file=.*,line=\d+),", bad.stdout, re.M) == [f"file=ops/runbook.txt,line={line}"]
    assert summary.read_text().count("### ") == 2


def test_github_says_that_no_cluster_answers(tmp_path: Path, environment: dict[str, str]) -> None:
    summary = tmp_path / "summary.md"
    summary.touch()
    environment |= {"GITHUB_STEP_SUMMARY": str(summary), "RUNNER_TEMP": str(tmp_path), "OBI_KUBECONFIG": DEAD}
    assert github_steps()[KUBECONFIG].run(tmp_path, environment).returncode == 0
    assert (tmp_path / "kubeconfig").stat().st_mode & 0o777 == 0o600
    done = github_steps()[VERIFY].run(tmp_path, environment)
    assert (done.returncode, "127.0.0.1:1" in done.stdout) == (4, True)
    assert "::error title=cluster_unreachable" in done.stdout
    assert "no answer" in summary.read_text()


def test_gitlab_gets_its_junit_files(tmp_path: Path, environment: dict[str, str]) -> None:
    runbook = gitlab_jobs()["runbook"].run(tmp_path, environment)
    assert (runbook.returncode, runbook.stdout) == (0, "")
    cases = ET.parse(tmp_path / "obi-runbook.xml").findall(".//testcase")
    lines = [line for line in (EXAMPLES / "runbook.txt").read_text().splitlines() if line and line[0] != "#"]
    assert [case.get("name") for case in cases] == lines
    (tmp_path / "kubeconfig").write_text(DEAD)
    environment["OBI_KUBECONFIG"] = str(tmp_path / "kubeconfig")
    deployment = gitlab_jobs()["deployment"].run(tmp_path, environment)
    assert deployment.returncode == 4
    found = ET.parse(tmp_path / "obi-deployment.xml").findall(".//error")
    assert [error.get("type") for error in found] == ["cluster_unreachable"]
