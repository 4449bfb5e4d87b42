"""Reports for CI: whatever a message holds, it stays a message."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from obi_mcp.cli.call_report import call_report, exit_code
from obi_mcp.cli.reports import MAX_NAME, Case, Outcome, Report, print_report
from obi_mcp.cli.reports_github import annotation, markdown, summary, workflow_commands
from obi_mcp.cli.reports_junit import junit
from obi_mcp.toolsets.base import ToolResult

HOSTILE = [
    # what, the text, as XML gives it back, as data of a workflow command, as a property of one
    ("plain", "a pod", "a pod", "a pod", "a pod"),
    ("markup", "<b a=\"1\" b='2'>&amp;]]></b>", None, None, None),
    ("percent", "100%0A::error::x", None, "100%250A::error::x", "100%250A%3A%3Aerror%3A%3Ax"),
    ("newline", "a\n::error::x", None, "a%0A::error::x", "a%0A%3A%3Aerror%3A%3Ax"),
    ("carriage return", "a\r::x", None, "a%0D::x", "a%0D%3A%3Ax"),
    ("both", "a\r\nb", None, "a%0D%0Ab", None),
    ("properties", "x,line=7::y", None, None, "x%2Cline=7%3A%3Ay"),
    ("the older command", "##[error]x", None, None, None),
    ("a tab", "a\tb", None, None, None),
    ("escape", "\x1b[31mred\x1b[0m", "\\u001b[31mred\\u001b[0m", None, None),
    ("NUL", "a\x00b", "a\\u0000b", None, None),
    ("a lone surrogate", "a\udcffb", "a\\udcffb", None, None),
    ("no character", "a\ufffe\uffffb", "a\\ufffe\\uffffb", None, None),
    ("beyond the first plane", "a\U0001f525b", None, None, None),
    ("entities", "&#10;&lt;!DOCTYPE x [<!ENTITY a 'b'>]>", None, None, None),
    ("blanks at the ends", "  a  ", None, None, None),
]
IDS = [row[0] for row in HOSTILE]


def bad(text: str, **more: object) -> Case:
    return Case(text, "failed", text, text, text, output=text, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("what", "text", "xml", "data", "value"), HOSTILE, ids=IDS)
def test_xml_gives_back_what_was_said(what: str, text: str, xml: str | None, data: str, value: str) -> None:
    written = junit(Report(text, (bad(text),), text)).encode("utf-8")
    root = ET.fromstring(written)
    case = root.find("testsuite/testcase")
    assert case is not None
    failure = case.find("failure")
    assert failure is not None
    same = text if xml is None else xml
    given = (case.get("name"), case.get("file"), failure.get("type"), failure.get("message"), failure.text)
    assert given == (same, same, same, same, f"{same}\nhint: {same}")
    assert case.findtext("system-out") == same
    assert [child.tag for child in case] == ["failure", "system-out"]


@pytest.mark.parametrize(("what", "text", "xml", "data", "value"), HOSTILE, ids=IDS)
def test_a_workflow_command_stays_one_line_with_its_own_properties(
    what: str, text: str, xml: str, data: str | None, value: str | None
) -> None:
    written = annotation(Case("n", "failed", "k", text, line=3), text)
    assert not re.search(r"[\r\n]", written)
    command, properties, said = read_command(written)
    assert (command, said) == ("error", text)
    assert properties == {"file": text, "line": "3", "title": "k: n"}
    if data is not None:
        assert written.endswith(f"::{data}")
    if value is not None:
        assert f"file={value}," in written


@pytest.mark.parametrize(("what", "text", "xml", "data", "value"), HOSTILE, ids=IDS)
def test_what_is_quoted_is_no_command(what: str, text: str, xml: str, data: str, value: str) -> None:
    cases = (bad(text), Case(text, "passed", text, output=text))
    found = commands(workflow_commands(Report(text, cases, text), "token"))
    assert [command for command, _, _ in found] == ["error"]


@pytest.mark.parametrize(("what", "text", "xml", "data", "value"), HOSTILE, ids=IDS)
def test_the_summary_has_one_row_a_case_and_no_markup_of_others(
    what: str, text: str, xml: str, data: str, value: str
) -> None:
    written = summary(Report("t", (bad(text), bad(text))))
    rows = [line for line in written.splitlines() if line.startswith("|")]
    assert len(rows) == 4
    assert all(row.count("|") == 5 for row in rows)
    assert not re.search(r"[<>`*_\[\]\\@]", markdown(text))


def test_the_token_is_another_every_time() -> None:
    report = Report("t", ())
    assert workflow_commands(report) != workflow_commands(report)


def test_a_name_is_cut_and_counts_are_kept() -> None:
    outcomes: tuple[Outcome, ...] = ("passed", "failed", "error", "failed")
    report = Report("t", tuple(Case("n" * 999, outcome, "k") for outcome in outcomes))
    suite = ET.fromstring(junit(report)).find("testsuite")
    assert suite is not None
    assert [suite.get(name) for name in ("tests", "failures", "errors")] == ["4", "2", "1"]
    assert {len(case.get("name", "")) for case in suite} == {MAX_NAME}
    assert report.verdict == "4 cases: 1 passed, 2 failed, 1 without an answer"


def test_the_summary_is_appended_and_its_absence_is_no_failure(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    file = tmp_path / "summary.md"
    file.write_text("before\n")
    report = Report("t", (Case("n", "passed", "k"),))
    print_report(report, "github", {"GITHUB_STEP_SUMMARY": str(file)})
    assert file.read_text() == "before\n" + summary(report)
    capfdbinary.readouterr()
    print_report(report, "github", {"GITHUB_STEP_SUMMARY": str(tmp_path)})
    said = capfdbinary.readouterr()
    assert b"cannot be written" in said.err and b"::stop-commands::" in said.out


SEEN = {"id": "metrics", "severity": "error", "what": "no metrics", "evidence": "refused", "next_step": "read its log"}
RESULTS: list[tuple[str, ToolResult, int, list[tuple[str, str, str]]]] = [
    # what, the tool's result, the exit code, outcome, kind and message of each case
    ("good", ToolResult({"exit_code": 0, "stdout": "x"}, "x", payload="x"), 0, [("passed", "ok", "")]),
    (
        "the program failed",
        ToolResult(
            {"exit_code": 1, "stderr": "no", "decision": {"effect": "allow", "rule": "r"}}, "t", False, 1, payload=""
        ),
        1,
        [("failed", "exit 1", "no")],
    ),
    (
        "denied",
        ToolResult({"code": "denied", "message": "m", "hint": "h"}, "t", True, 3),
        3,
        [("failed", "denied", "m")],
    ),
    (
        "no cluster",
        ToolResult({"code": "cluster_unreachable", "message": "m"}, "t", True, 4),
        4,
        [("error", "cluster_unreachable", "m")],
    ),
    (
        "findings",
        ToolResult({"verdict": "4/5 nodes", "findings": [SEEN, {**SEEN, "severity": "warning"}, "x", {}]}, "t"),
        1,
        [
            ("passed", "ok", ""),
            ("failed", "error metrics", "no metrics: refused"),
            ("passed", "warning metrics", "no metrics: refused"),
        ],
    ),
    (
        "findings of a tool that says so itself",
        ToolResult({"verdict": "4/5 nodes", "findings": [SEEN]}, "t", exit_code=1),
        1,
        [("failed", "exit 1", "4/5 nodes"), ("failed", "error metrics", "no metrics: refused")],
    ),
    (
        "mild findings",
        ToolResult({"findings": [{"severity": "ok", "subject": "jq", "evidence": "/bin/jq"}]}, "5/5"),
        0,
        [("passed", "ok", ""), ("passed", "ok", "jq: /bin/jq")],
    ),
    (
        "a line of a configuration",
        ToolResult({"findings": [{"severity": "error", "key": "a.b", "line": 3, "message": "no such key"}]}, "t"),
        1,
        [("passed", "ok", ""), ("failed", "error a.b", "no such key")],
    ),
]


@pytest.mark.parametrize(("what", "result", "code", "cases"), RESULTS, ids=[row[0] for row in RESULTS])
def test_a_call_is_a_case_and_so_is_each_finding(
    what: str, result: ToolResult, code: int, cases: list[tuple[str, str, str]]
) -> None:
    report = call_report("obi_x", {"namespace": "a"}, result, None)
    assert exit_code(result) == code
    assert [(case.outcome, case.kind, case.message) for case in report.cases] == cases
    assert report.cases[0].name == 'obi_x {"namespace": "a"}'


def test_a_finding_with_a_line_and_a_warning_are_annotated_where_they_are() -> None:
    findings = [
        {"severity": "error", "key": "a.b", "line": 3, "message": "no such key", "hint": "c"},
        {"severity": "warning", "key": "d", "line": 9, "message": "is old"},
        {"severity": "info", "key": "e", "line": 10, "message": "is good"},
    ]
    report = call_report("obi_validate_config", {}, ToolResult({"findings": findings}, "t", exit_code=1), "obi.yml")
    found = commands(workflow_commands(report))
    assert [(command, properties.get("line"), said) for command, properties, said in found] == [
        ("error", None, "t"),
        ("error", "3", "no such key\nhint: c"),
        ("warning", "9", "is old"),
    ]
    assert {properties["file"] for _, properties, _ in found} == {"obi.yml"}


# --- GitHub's side, as its runner reads lines (ActionCommand and ActionCommandManager) ---


def read_command(line: str) -> tuple[str, dict[str, str], str]:
    """Command, properties and data of one line that begins with ``::``."""
    head, mark, data = line[2:].partition("::")
    assert line.startswith("::") and mark
    command, _, listed = head.partition(" ")
    properties = {}
    for pair in filter(None, listed.split(",")):
        name, _, value = pair.partition("=")
        properties[name] = unescape(value, {"%3A": ":", "%2C": ","})
    return command, properties, unescape(data, {})


def unescape(text: str, further: dict[str, str]) -> str:
    for sign, meant in ({"%0D": "\r", "%0A": "\n"} | further | {"%25": "%"}).items():
        text = text.replace(sign, meant)
    return text


def commands(printed: str) -> list[tuple[str, dict[str, str], str]]:
    """What the runner does: it ends lines at either line end, and after ``stop-commands`` waits for the token."""
    found: list[tuple[str, dict[str, str], str]] = []
    token: str | None = None
    for line in re.split(r"\r\n|\r|\n", printed):
        text = line.lstrip()
        if token is not None:
            token = None if text.startswith(f"::{token}::") else token
        elif text.startswith("::"):
            command = read_command(text)
            if command[0] == "stop-commands":
                token = command[2]
            else:
                found.append(command)
        elif "##[" in line:
            found.append((line, {}, ""))
    assert token is None
    return found
