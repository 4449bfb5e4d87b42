"""A report as JUnit XML, in the elements that GitLab, Jenkins and the test-report actions of GitHub all read.

Source of fact: the schema of Jenkins' xUnit plugin (``testsuites``, ``testsuite``, ``testcase``, ``failure``,
``error``, ``system-out``); which characters XML 1.0 allows at all: its production 2, ``Char``.
"""

from __future__ import annotations

import re

from obi_mcp.cli.reports import MAX_MESSAGE, MAX_NAME, Case, Report, clip

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Not even as a numeric reference may these stand in a document."""

_MARKUP = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}
_TEXT = str.maketrans(_MARKUP)
_ATTRIBUTE = str.maketrans({**_MARKUP, '"': "&quot;", "'": "&apos;", "\n": "&#10;", "\t": "&#9;"})


def junit(report: Report) -> str:
    """The whole document: one suite, one test case for each case."""
    counts = (
        f'tests="{len(report.cases)}" failures="{report.count("failed")}" errors="{report.count("error")}" skipped="0"'
    )
    seconds = f'time="{sum(case.seconds or 0.0 for case in report.cases):.3f}"'
    name = attribute(report.title)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuites name="{name}" {counts} {seconds}>',
        f'<testsuite name="{name}" {counts} {seconds}>',
        *(_case(case, report) for case in report.cases),
        "</testsuite>",
        "</testsuites>",
    ]
    return "\n".join(lines) + "\n"


def text(value: str) -> str:
    """As the content of an element."""
    return _escape(value, _TEXT)


def attribute(value: str) -> str:
    """As the value of an attribute in double quotes; line ends survive the reader's normalisation."""
    return _escape(value, _ATTRIBUTE)


def _escape(value: str, table: dict[int, str]) -> str:
    shown = _FORBIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", value)
    return shown.translate(table)


def _case(case: Case, report: Report) -> str:
    place = f' file="{attribute(report.source)}"' if report.source else ""
    place += f' line="{case.line}"' if case.line is not None else ""
    head = (
        f'<testcase classname="{attribute(report.title)}" name="{attribute(clip(case.name, MAX_NAME))}"{place} '
        f'time="{case.seconds or 0.0:.3f}">'
    )
    return f"{head}{_ending(case)}{_output(case)}</testcase>"


def _ending(case: Case) -> str:
    if case.outcome == "passed":
        return ""
    element = "failure" if case.outcome == "failed" else "error"
    message = attribute(clip(case.message, MAX_MESSAGE))
    return f'<{element} type="{attribute(case.kind)}" message="{message}">{text(case.text)}</{element}>'


def _output(case: Case) -> str:
    return f"<system-out>{text(case.output)}</system-out>" if case.output else ""
