"""``obi-mcp call``: the road of an MCP client from the command line, and the exit code that says how it ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.recorded_road import NARROWED

from obi_mcp.audit_chain import verify
from obi_mcp.cli import call
from obi_mcp.enforcer.model import Answer
from obi_mcp.toolsets.base import ToolResult
from obi_mcp.toolsets.rendering import render_answer

ROOT = Path(__file__).parents[3]
MANIFEST = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: obi, namespace: observability}\ndata: {}\n"


def run(tmp_path: Path, *argv: str, stdin: str = "", log: str | None = "audit.log") -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("HOME", "XDG_CACHE_HOME") if name in os.environ}
    logged = ("--audit-file", log) if log else ()
    return subprocess.run(
        [sys.executable, "-m", "obi_mcp", "call", *argv, *logged],
        env={**kept, "PATH": str(tmp_path), "PYTHONPATH": f"{ROOT}/server"},
        cwd=tmp_path,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


ENDINGS: list[tuple[str, list[str], int, str]] = [
    # what, the arguments, the exit code, what stands on standard error or output
    ("allowed", ["obi_explain_command", "--arg", "command=kubectl get pods -A"], 0, "narrow by kubectl.get"),
    ("refused", ["obi_explain_command", "--arg", "command=kubectl get secrets"], 3, "deny by hard."),
    ("denied", ["obi_kubectl", "--arg", "command=kubectl get secrets"], 3, "denied: "),
    ("unreadable", ["obi_kubectl", "--arg", "command=kubectl get pods; id"], 3, "invalid_command: "),
    ("another tool's", ["obi_helm", "--arg", "command=kubectl get pods"], 3, "give this command to obi_kubectl"),
    ("no argument", ["obi_kubectl"], 2, "needs the argument command"),
    ("an unknown one", ["obi_kubectl", "--arg", "comand=x"], 2, "did you mean command?"),
    ("a wrong type", ["obi_kubectl", "--json", '{"command": 7}'], 2, "must be of type string, not integer"),
]


@pytest.mark.parametrize(("what", "argv", "code", "said"), ENDINGS, ids=[row[0] for row in ENDINGS])
def test_the_exit_code_says_how_a_call_ended(what: str, argv: list[str], code: int, said: str, tmp_path: Path) -> None:
    done = run(tmp_path, *argv)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    answered = argv[0] == "obi_explain_command"
    assert said in (done.stdout if answered else done.stderr)
    assert bool(done.stdout) == answered
    found = verify(tmp_path / "audit.log")
    assert (found.good, found.lines) == (True, 1)


@pytest.mark.parametrize(("log", "lines"), [(None, 1), ("-", 1), ("audit.log", 0)])
def test_a_call_has_its_audit_line_on_standard_error_or_in_the_file(
    log: str | None, lines: int, tmp_path: Path
) -> None:
    done = run(tmp_path, "obi_kubectl", "--arg", "command=kubectl get secrets", log=log)
    assert done.returncode == 3
    assert len([line for line in done.stderr.splitlines() if line.startswith("{")]) == lines


def test_json_is_the_structured_result(tmp_path: Path) -> None:
    done = run(tmp_path, "obi_kubectl", "--arg", "command=kubectl get secrets", "--output", "json")
    assert done.returncode == 3
    shown = json.loads(done.stdout)
    assert (shown["code"], shown["decision"]["effect"]) == ("denied", "deny")


def test_arguments_come_as_pairs_as_json_and_from_files(tmp_path: Path) -> None:
    (tmp_path / "manifest.yaml").write_text(MANIFEST)
    command = "kubectl apply -f -"
    pairs = ["--access", "full", "--arg", f"command={command}", "--arg", "access=read-only"]
    by_file = run(tmp_path, "obi_explain_command", *pairs, "--stdin", "manifest.yaml", "--output", "json")
    by_input = run(tmp_path, "obi_explain_command", *pairs, "--stdin", "-", "--output", "json", stdin=MANIFEST)
    whole = json.dumps({"command": command, "access": "read-only", "stdin": MANIFEST})
    by_json = run(tmp_path, "obi_explain_command", "--access", "full", "--json", whole, "--output", "json")
    by_dash = run(tmp_path, "obi_explain_command", "--access", "full", "--json", "-", "--output", "json", stdin=whole)
    assert by_file.stdout == by_input.stdout == by_json.stdout == by_dash.stdout
    assert json.loads(by_file.stdout)["access"] == "non-destructive"


def test_text_is_what_the_program_printed_and_the_rest_goes_to_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    answer = Answer("obi-1\n", "a warning", 0, NARROWED, 5, truncated=True, cut="12 bytes were cut")
    call._print(render_answer(answer), "text")
    shown = capsys.readouterr()
    assert shown.out == "obi-1\n"
    assert "12 bytes were cut" in shown.err
    assert "a warning" in shown.err
    call._print(ToolResult({}, "denied: no", is_error=True), "text")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "denied: no\n")
