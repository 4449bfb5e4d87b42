"""What ``doctor`` finds of programs and credential plugins; and that it goes on when nothing is there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.bare import bare_environment, bare_python

from obi_mcp.cli.findings import Finding
from obi_mcp.cli.findings_programs import program_findings
from obi_mcp.config import Programs, Settings


@pytest.fixture(autouse=True)
def _nothing_beside_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))


def program(directory: Path, name: str) -> str:
    file = directory / name
    file.write_text("#!/bin/false\n")
    file.chmod(0o755)
    return str(file)


def kubeconfig(tmp_path: Path, plugin: str) -> str:
    file = tmp_path / "kubeconfig"
    user = {"exec": {"command": plugin, "installHint": "get it from your cloud"}}
    config = {
        "current-context": "prod",
        "clusters": [{"name": "prod", "cluster": {"server": "https://127.0.0.1:1"}}],
        "contexts": [{"name": "prod", "context": {"cluster": "prod", "user": "me"}}],
        "users": [{"name": "me", "user": user}],
    }
    file.write_text(json.dumps(config))
    file.chmod(0o600)
    return str(file)


def found(tmp_path: Path, plugin: str) -> dict[str, Finding]:
    settings = Settings(programs=Programs(path=(str(tmp_path),), kubeconfig=kubeconfig(tmp_path, plugin)))
    return {
        finding.subject: finding
        for finding in program_findings(settings, {"PATH": str(tmp_path), "OBI_MCP_CONTAINER": "0"})
    }


def test_programs_are_named_with_their_place_and_missing_ones_with_the_way_out(tmp_path: Path) -> None:
    kubectl = program(tmp_path, "kubectl")
    beyla = program(tmp_path, "beyla")
    plugin = program(tmp_path, "cloud-login")
    seen = found(tmp_path, "cloud-login")
    assert seen["kubectl"] == Finding("kubectl", "ok", kubectl)
    assert seen["obi"] == Finding("obi", "ok", beyla)
    assert seen["credentials of prod"] == Finding("credentials of prod", "ok", f"the plugin {plugin}")
    for name in ("helm", "jq"):
        assert (seen[name].severity, seen[name].next_step) == (
            "problem",
            f"install {name}, or name its directory in programs.path",
        )


def test_a_credential_plugin_that_is_missing_is_a_problem(tmp_path: Path) -> None:
    missing = found(tmp_path, "cloud-login")["credentials of prod"]
    assert (missing.severity, missing.next_step) == ("problem", "get it from your cloud")


def test_doctor_goes_on_when_nothing_is_there(tmp_path: Path) -> None:
    done = subprocess.run(
        [bare_python(tmp_path), "-m", "obi_mcp", "doctor", "--json"],
        env=bare_environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    shown = json.loads(done.stdout)
    severities = {finding["subject"]: finding["severity"] for finding in shown["findings"]}
    assert shown["good"] is False
    assert severities["policy"] == severities["limits"] == "ok"
    assert severities["kubectl"] == severities["helm"] == severities["kubeconfig file"] == "problem"
    assert all(finding["next_step"] for finding in shown["findings"] if finding["severity"] == "problem")
