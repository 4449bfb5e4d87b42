"""What a CI system reads of a check or a call: one case each, as JUnit XML or as GitHub's workflow commands.

Standard library only, and little of it: ``policy check`` writes reports too, and has a quarter of a second.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

FORMATS = ("text", "json", "junit", "github")
"""What ``--output`` takes."""

SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"
MAX_NAME = 300
MAX_MESSAGE = 4_000

Outcome = Literal["passed", "failed", "error"]
"""``failed``: the answer is no. ``error``: there is no answer, for example because no cluster could be reached."""


@dataclass(frozen=True, slots=True)
class Case:
    """One line that was judged, one call that was made, or one finding of a call.

    ``name`` and ``message`` may be text from anywhere: every writer of a report escapes them. ``kind`` is a short name
    of ours: a rule, an error code. ``line`` is the line in the report's ``source``, from 1.
    """

    name: str
    outcome: Outcome
    kind: str
    message: str = ""
    hint: str | None = None
    output: str = ""
    line: int | None = None
    seconds: float | None = None

    @property
    def text(self) -> str:
        """The message and the way out."""
        return self.message + (f"\nhint: {self.hint}" if self.hint else "")


@dataclass(frozen=True, slots=True)
class Report:
    """All cases of one run. ``source`` is the file, as the repository names it, that the cases stand in."""

    title: str
    cases: Sequence[Case]
    source: str | None = None

    def count(self, outcome: Outcome) -> int:
        """How many cases ended so."""
        return sum(case.outcome == outcome for case in self.cases)

    @property
    def verdict(self) -> str:
        """One line for a log: ``3 cases: 1 passed, 2 failed``."""
        said = [f"{self.count('passed')} passed"]
        said += [f"{self.count('failed')} failed"] if self.count("failed") else []
        said += [f"{number} without an answer"] if (number := self.count("error")) else []
        return f"{len(self.cases)} case{'' if len(self.cases) == 1 else 's'}: {', '.join(said)}"


def print_report(report: Report, form: str, environ: Mapping[str, str] | None = None) -> None:
    """Writes the report to standard output; for GitHub, the summary of the job too where its file is named.

    ``form`` is ``junit`` or ``github``. ``environ`` None: the process's own.
    """
    if form == "junit":
        from obi_mcp.cli.reports_junit import junit

        _write(junit(report))
        for case in report.cases:
            if case.outcome != "passed":
                print(f"{case.outcome}: {case.name}\n{case.text}", file=sys.stderr)
        print(f"{report.title}: {report.verdict}", file=sys.stderr)
        return
    from obi_mcp.cli.reports_github import summary, workflow_commands

    _write(workflow_commands(report))
    file = (os.environ if environ is None else environ).get(SUMMARY_VARIABLE)
    if file:
        _append(file, summary(report))


def clip(text: str, length: int) -> str:
    """At most so many characters, the last one an ellipsis where some were cut."""
    return text if len(text) <= length else text[: length - 1] + "…"


def _write(text: str) -> None:
    """Bytes, since a terminal's or a locale's encoding may not have what a message has."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "replace"))
    sys.stdout.buffer.flush()


def _append(file: str, text: str) -> None:
    try:
        with open(file, "a", encoding="utf-8", errors="replace") as stream:
            stream.write(text)
    except OSError as error:
        print(
            f"the job's summary {file} cannot be written: {error.strerror}\n"
            f"hint: in a container, mount it at its own path and run as its owner, or leave {SUMMARY_VARIABLE} unset",
            file=sys.stderr,
        )
