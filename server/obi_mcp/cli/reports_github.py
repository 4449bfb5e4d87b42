"""A report as GitHub's workflow commands (``::error file=…,line=…::…``), and as Markdown for the job's summary.

Source of fact: GitHub's runner, which reads every line that a step prints: one that begins with ``::`` is a command,
and so is the older ``##[`` anywhere in a line. In a command ``%``, carriage return and newline are escaped, in its
properties ``:`` and ``,`` too; between ``::stop-commands::TOKEN`` and ``::TOKEN::`` nothing is a command.
"""

from __future__ import annotations

import os

from obi_mcp.cli.reports import MAX_MESSAGE, MAX_NAME, Case, Report, clip

MAX_ROWS = 1_000
"""Rows of the summary: GitHub drops one of more than a mebibyte whole."""
MAX_CELL = 400

_DATA = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_PROPERTY = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A", ":": "%3A", ",": "%2C"})
_MARKDOWN = str.maketrans({mark: f"&#{ord(mark)};" for mark in "&<>\"'`|\\*_[]()~#@!:-+={}$^/."})
_MARKS = {"passed": "✅ passed", "failed": "❌ failed", "error": "⚠️ no answer"}


def workflow_commands(report: Report, token: str | None = None) -> str:
    """What was answered as plain text that cannot be taken for a command, then an annotation for each bad case.

    ``token`` None: one that nobody can guess.
    """
    stop = os.urandom(16).hex() if token is None else token
    lines = [f"::stop-commands::{stop}"]
    for case in report.cases:
        lines.append(f"{case.outcome:<7} {case.kind}: {case.name}")
        lines += [case.output.rstrip("\n")] if case.output else []
    lines += [f"{report.title}: {report.verdict}", f"::{stop}::"]
    lines += [annotation(case, report.source) for case in report.cases if _level(case)]
    return "\n".join(lines) + "\n"


def annotation(case: Case, source: str | None) -> str:
    """One error or warning, at its line of the file where both are known."""
    properties = {}
    if source:
        properties["file"] = source
        if case.line is not None:
            properties["line"] = str(case.line)
    properties["title"] = clip(f"{case.kind}: {case.name}", MAX_NAME)
    written = ",".join(f"{name}={value.translate(_PROPERTY)}" for name, value in properties.items())
    return f"::{_level(case) or 'notice'} {written}::{clip(case.text, MAX_MESSAGE).translate(_DATA)}"


def _level(case: Case) -> str:
    """What GitHub calls it; empty for what needs no annotation."""
    return "error" if case.outcome != "passed" else "warning" if case.kind.split(" ")[0] == "warning" else ""


def summary(report: Report) -> str:
    """A heading, the verdict and a table; bad cases come first."""
    ordered = sorted(report.cases, key=lambda case: case.outcome == "passed")
    lines = [f"### {markdown(report.title)}", "", markdown(report.verdict), ""]
    if ordered:
        lines += ["| line | what | result | why |", "| --- | --- | --- | --- |"]
        lines += [_row(case) for case in ordered[:MAX_ROWS]]
    if len(ordered) > MAX_ROWS:
        lines += ["", f"… and {len(ordered) - MAX_ROWS} more"]
    return "\n".join(lines) + "\n\n"


def markdown(value: str) -> str:
    """Text that Markdown and HTML take for text: every mark as a numeric reference, every line end a blank."""
    visible = "".join(sign if sign.isprintable() else " " for sign in clip(value, MAX_CELL))
    return visible.translate(_MARKDOWN)


def _row(case: Case) -> str:
    line = str(case.line) if case.line is not None else ""
    why = f"{markdown(case.kind)} {markdown(case.message)}" if case.outcome != "passed" else markdown(case.kind)
    return f"| {line} | <code>{markdown(case.name)}</code> | {_MARKS[case.outcome]} | {why} |"
