"""``obi config validate -`` and ``obi config migrate -`` as our own validator and migrator answer them.

For every v1 document, and wherever the binary's version is not known to have the sub-commands. Output and exit codes
are OBI's own: 0 good, 1 wrong, 2 usage, 3 partial; the first line on standard error says who answered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from obi_mcp.obi.config import MODES, Mode, validate
from obi_mcp.obi.migration import migrate

USAGE = 2


@dataclass(frozen=True, slots=True)
class ConfigAnswer:
    """What the command would have printed, and its exit code."""

    stdout: str
    stderr: str
    exit_code: int


def answer_validate(text: str, *, mode: str = "standalone", version: str | None = None, why: str = "") -> ConfigAnswer:
    """The answer of ``config validate``. ``version``: OBI's; ``why``: why its own validator was not asked."""
    return _answer(mode, "validator", why, lambda known: _validated(text, known, version))


def answer_migrate(text: str, *, mode: str = "standalone", allow_partial: bool = False, why: str = "") -> ConfigAnswer:
    """The answer of ``config migrate``. Without ``allow_partial`` nothing is printed that would lack a key."""
    return _answer(mode, "migrator", why, lambda known: _migrated(text, known, allow_partial))


def _answer(mode: str, who: str, why: str, answer: Callable[[Mode], ConfigAnswer]) -> ConfigAnswer:
    first = f"obi-mcp: answered by obi-mcp's own {who}{f' ({why})' if why else ''}\n"
    known = next((known for known in MODES if known == mode), None)
    if known is None:
        return ConfigAnswer("", f"{first}invalid mode {mode!r}; expected standalone or receiver\n", USAGE)
    given = answer(known)
    return ConfigAnswer(given.stdout, first + given.stderr, given.exit_code)


def _validated(text: str, mode: Mode, version: str | None) -> ConfigAnswer:
    findings = validate(text, version=version, mode=mode)
    said = [f"{finding.severity}: {finding}" for finding in findings]
    errors = sum(finding.severity == "error" for finding in findings)
    if errors:
        return ConfigAnswer("", "\n".join([f"validation failed: {errors} error{'s' * (errors > 1)}", *said, ""]), 1)
    return ConfigAnswer("configuration is valid\n", "".join(f"{line}\n" for line in said), 0)


def _migrated(text: str, mode: Mode, allow_partial: bool) -> ConfigAnswer:
    migration = migrate(text, mode=mode, source="v1")
    if migration.problem is not None:
        return ConfigAnswer("", f"migration failed: {migration.problem}\n", 1)
    notes = [f"note: {note}" for note in migration.notes]
    left = [f"not moved: {entry.key}: {entry.reason}" for entry in migration.unmoved]
    if left and not allow_partial:
        count = f"{len(left)} key{'s' * (len(left) > 1)}"
        head = f"migration failed: {count} of the document cannot be moved; --allow-partial writes the rest"
        return ConfigAnswer("", "\n".join([head, *left, *notes, ""]), 1)
    head = "migrated v1 config to OBI config v2; comments are not kept, ${…} stands as it was"
    return ConfigAnswer(migration.text, "\n".join([head, *left, *notes, ""]), 3 if left else 0)
