"""``obi config validate|migrate [flags] -``: the only forms of OBI's own program that a command line may have.

OBI ignores operands that it does not know and starts instrumenting; whether the binary on this host knows the
sub-commands is for the enforcer to find out, and our own validator and migrator answer where it does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from obi_mcp.policy.documents_form import refused_in

if TYPE_CHECKING:
    from obi_mcp.policy.draft import Draft

_MAX_BYTES = 1_048_576


def judge_config(draft: Draft) -> None:
    """Exactly one operand, ``-``, and a document in ``stdin``. Raises: Denied."""
    operands = draft.command.operands
    if len(operands) != 1 or operands[0].text != "-":
        at = next((operand for operand in operands if operand.text != "-"), operands[1] if len(operands) > 1 else None)
        raise draft.deny(
            f"{draft.rule.line} reads its document from standard input only: write -", at=at, hint=draft.rule.hint
        )
    stdin = draft.call.stdin
    if stdin is None or not stdin.strip():
        raise draft.deny("- reads standard input, and none was given", at=operands[0], hint=draft.rule.hint)
    if len(stdin.encode("utf-8", "surrogatepass")) > _MAX_BYTES:
        raise refused_in(draft, f"the document has more than {_MAX_BYTES} bytes", "send a smaller one", 0, None)
