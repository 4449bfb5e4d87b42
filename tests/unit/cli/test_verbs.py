"""The command line: dispatch, help, and what bad usage is answered with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.cli.in_process import run_verb

from obi_mcp import __version__
from obi_mcp.cli.policy import ACTIONS
from obi_mcp.cli.verbs import EXIT_CODES, VERBS, run
from obi_mcp.errors import ObiMcpError

ROOT = Path(__file__).parents[3]
PROGRAM = [sys.executable, "-m", "obi_mcp"]


def every_error() -> list[type[ObiMcpError]]:
    found: list[type[ObiMcpError]] = [ObiMcpError]
    for error in found:
        found.extend(error.__subclasses__())
    return found


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": f"{ROOT}/server", **more}


@pytest.mark.parametrize("word", ["-V", "--version", "version"])
def test_the_version_is_printed(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([word]) == 0
    assert capsys.readouterr().out == f"obi-mcp {__version__}\n"


@pytest.mark.parametrize("word", ["-h", "--help", "help"])
def test_help_names_every_verb_and_every_exit_code(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([word]) == 0
    text = capsys.readouterr().out
    assert all(f"  {verb.name} " in text and verb.summary in text for verb in VERBS)
    assert all(f"  {code}  {meaning}" in text for code, meaning in EXIT_CODES)
    assert all(len(line) <= 120 for line in text.splitlines())


def test_the_help_of_policy_names_every_action(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text and action.summary in text for name, action in ACTIONS.items())


COMMANDS = [[verb.name] for verb in VERBS if verb.name != "policy"] + [["policy", name] for name in ACTIONS]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_argument_says_what_it_is(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")  # no help goes on in a second line
    with pytest.raises(SystemExit) as ended:
        run([*command, "--help"])
    said = capsys.readouterr().out.partition("\n\n")[2]
    # The help stands behind the argument or, where that is long, in the next line.
    named = re.findall(r"^  (\S.*(?:\n {24}\S.*)?)", said, re.MULTILINE)
    assert (ended.value.code, bool(named)) == (0, True)
    assert [argument for argument in named if not re.search(r"\s{2,}\S", argument)] == []


def test_every_error_ends_in_a_documented_exit_code() -> None:
    assert {error.exit_code for error in every_error()} <= {code for code, _ in EXIT_CODES}


BAD_USAGE: list[tuple[list[str], str, str]] = [
    # the command line, the message, the way out
    ([], "usage: obi-mcp VERB", "verbs:"),
    (["srve"], "there is no verb 'srve'", "did you mean serve?"),
    (["frobnicate"], "there is no verb 'frobnicate'", "use one of serve, call"),
    (["serve", "--acces", "full"], "obi-mcp serve: unrecognized arguments: --acces full", "did you mean --access?"),
    (["serve", "--access", "root"], "argument --access: invalid choice: 'root'", "`obi-mcp serve --help`"),
    (["serve", "now"], "unrecognized arguments: now", "`obi-mcp serve --help`"),
    (["serve", "--config", "/nowhere.yaml"], "/nowhere.yaml (--config) is not there", "name a file"),
    (["serve", "--toolsets", "comand"], "there is no toolset comand", "command"),
    (["tools", "--toolsets", "comand"], "there is no toolset comand", "command"),
    (["call"], "the following arguments are required: TOOL", "--help"),
    (["call", "obi_secrets"], "there is no tool 'obi_secrets'", "obi_kubectl"),
    (["call", "obi_k8s_deploy", "--toolsets", "kubernetes"], "needs the access level", "--access non-destructive"),
    (["call", "obi_docker_status", "--toolsets", "command"], "which is switched off", "--toolsets command,docker"),
    (["call", "obi_kubectl", "--arg", "command"], "'command' is not NAME=VALUE", "--arg command="),
    (["call", "obi_kubectl", "--json", "{"], "--json is not JSON", "for example"),
    (["call", "obi_kubectl", "--json", "[]"], "--json is not an object", "for example"),
    (["call", "obi_kubectl", "--arg", "timeout_s=soon"], "timeout_s=soon is not of type number", "timeout_s=0.5"),
    (["call", "obi_k8s_preflight", "--arg", "features=network"], "not of type array", "features='[\"a\"]'"),
    (["call", "obi_helm_install"], "non-destructive; this is read-only, and the toolset helm", "--toolsets command,"),
    (["call", "obi_kubectl", "--stdin", "/nowhere"], "--stdin /nowhere cannot be read", "name a file"),
    (["config"], "the following arguments are required: action", "--help"),
    (["config", "show", "--access", "root"], "invalid choice: 'root'", "--help"),
    (["audit", "verify"], "the following arguments are required: FILE", "--help"),
    (["completion", "csh"], "invalid choice: 'csh'", "--help"),
]


@pytest.mark.parametrize(("argv", "message", "way_out"), BAD_USAGE, ids=[" ".join(row[0]) for row in BAD_USAGE])
def test_bad_usage_is_one_message_and_the_way_out(argv: list[str], message: str, way_out: str, tmp_path: Path) -> None:
    done = run_verb(tuple(argv), b"", environment(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert way_out in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as gone:
        done = subprocess.run(
            [*PROGRAM, "tools", "--json"], env=environment(tmp_path), stdout=gone, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (141, b"")
