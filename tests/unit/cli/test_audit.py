"""``obi-mcp audit verify``: the verdict and the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from obi_mcp.audit import AuditEntry, AuditLog
from obi_mcp.cli.verbs import run
from obi_mcp.config import Audit, Settings


@pytest.fixture
def log(tmp_path: Path) -> tuple[Path, str]:
    file = tmp_path / "audit.log"
    made = AuditLog(Settings(audit=Audit(str(file))))
    for number in range(3):
        made.record(AuditEntry("obi_kubectl", f"kubectl get pods #{number}", "test"))
    return file, made.close()


def test_a_good_log_is_said_to_be_good(log: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    file, head = log
    for argv in (["audit", "verify", str(file)], ["audit", "verify", str(file), "--head", head]):
        assert run(argv) == 0
        assert capsys.readouterr().out == f"{file}: 3 lines, each as it was written; head {head}\n"


def test_a_bad_line_is_named(log: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    file, head = log
    file.write_text(file.read_text().replace("#1", "#7"))
    assert run(["audit", "verify", str(file), "--head", head]) == 1
    assert f"{file}: line 2 was changed" in capsys.readouterr().out
    assert run(["audit", "verify", str(file), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["good"], found["line"]) == (False, 2)


def test_a_cut_tail_is_told_by_the_head(log: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    file, head = log
    Path(f"{file}.head").unlink()
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:2]))
    assert run(["audit", "verify", str(file)]) == 0
    assert "would not show" in capsys.readouterr().out
    assert run(["audit", "verify", str(file), "--head", head]) == 1
    assert "the tail was cut off" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [["/nowhere/audit.log"], ["README.md", "--head", "abc"]])
def test_what_cannot_be_verified_is_a_finding(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "verify", *argv]) == 1
    assert "obi-mcp audit: " in capsys.readouterr().err
