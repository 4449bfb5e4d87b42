"""The last step: the audit log of the session is whole, and a changed line would show."""

from __future__ import annotations

import json

from tests.demo.server import ServerFiles, last_head, verify_audit
from tests.demo.step import StepFailed
from tests.demo.transcript import Transcript

COMMAND_TOOLS = frozenset({"obi_kubectl", "obi_helm", "obi_command", "obi_explain_command"})
TITLE = "The audit log of this session, verified"


def play(files: ServerFiles, transcript: Transcript, *, calls: int) -> None:
    """Verifies the log by the head that the server printed, then a copy with one word changed. Raises: StepFailed."""
    transcript.heading(TITLE)
    try:
        head = last_head(files)
    except ValueError as problem:
        raise StepFailed(str(problem)) from None
    lines = [json.loads(line) for line in files.audit.read_text(encoding="utf-8").splitlines()]
    ends = [line for line in lines if line.get("outcome") != "began"]  # a write has a line before it is made, too
    written = sum(line.get("tool", "") in COMMAND_TOOLS for line in ends)
    if written != calls:
        raise StepFailed(f"{calls} command lines were called, and {written} lines of them are in the log")
    transcript.command("shell", f"obi-mcp audit verify {files.audit} --head {head}", None)
    whole = verify_audit(files.audit, head)
    transcript.output(whole.stdout)
    if whole.returncode != 0:
        raise StepFailed(f"the log does not verify: exit {whole.returncode}")
    changed = files.directory / "changed.ndjson"
    changed.write_text(files.audit.read_text(encoding="utf-8").replace("secret", "pod", 1), encoding="utf-8")
    transcript.command("shell", f"the same of a copy in which one word was changed: {changed}", None)
    torn = verify_audit(changed, head)
    transcript.output(torn.stdout)
    if torn.returncode != 1:
        raise StepFailed(f"a changed log was to be told (exit 1), and was not: exit {torn.returncode}")
