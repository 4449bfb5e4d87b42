"""What OBI's own ``config validate`` says beside what ours says, and where the two part.

The caller runs the binary, and only one whose version is known to have the sub-command: an older one ignores the
words and starts instrumenting (``docs/decisions/0003-obi-config.md``). The binary knows v2 documents only.
"""

from __future__ import annotations

from dataclasses import dataclass

from obi_mcp.obi.finding import ConfigFinding, Effect
from obi_mcp.obi.keys import numbers

FIRST_WITH_COMMAND = (0, 11, 0)
_LONGEST = 300
_GOOD = "configuration is valid"


@dataclass(frozen=True, slots=True)
class BinaryAnswer:
    """What ``obi config validate FILE`` gave: 0 good, 1 not good, 2 a usage error."""

    exit_code: int
    stdout: str
    stderr: str


def has_config_command(version: str | None) -> bool:
    """Whether an OBI of that version is known to have ``config validate|migrate``; False for an unknown one."""
    found = numbers(version)
    return found is not None and found >= FIRST_WITH_COMMAND


def compare(
    ours: tuple[ConfigFinding, ...], theirs: BinaryAnswer, *, version: str | None = None
) -> tuple[ConfigFinding, ...]:
    """Nothing where both say the same; else one finding (rule ``disagreement``) that says who said what.

    An answer that is neither a yes nor a no (usage errors, a binary that did something else) is a disagreement, too.
    """
    errors = [finding for finding in ours if finding.severity == "error"]
    name = f"OBI {version}" if version else "OBI"
    said = _said(theirs)
    if theirs.exit_code == 0 and _GOOD in theirs.stdout:
        if not errors:
            return ()
        message = f"{name} itself takes this document, and we do not: {errors[0]}"
        return (_finding(message, "our model of this version may be too old", Effect("starts", _GOOD, "run", name)),)
    if theirs.exit_code == 1 and "validation failed" in theirs.stderr:
        if errors:
            return ()
        message = f"{name} itself refuses this document, and we found nothing: {said}"
        return (_finding(message, "OBI's own word counts", Effect("exits", said, "run", name)),)
    message = f"{name} gave no answer to config validate: exit code {theirs.exit_code}{f', {said}' if said else ''}"
    return (_finding(message, "only our own validator has looked at it", Effect("unknown", "", "unknown", "")),)


def _finding(message: str, hint: str, effect: Effect) -> ConfigFinding:
    return ConfigFinding("disagreement", "warning", "", 1, 1, message, hint, case="disagreement", effect=effect)


def _said(theirs: BinaryAnswer) -> str:
    """The first line of what it said, cut."""
    text = (theirs.stderr.strip() or theirs.stdout.strip()).splitlines()
    first = text[0] if text else ""
    return first if len(first) <= _LONGEST else f"{first[: _LONGEST - 1]}…"
