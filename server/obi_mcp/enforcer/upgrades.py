"""Which upgrades of releases this server began: what it began it may take back, whatever the caller's level.

A roll-back brings back whatever a release once was, and needs ``full``; the one that takes back an upgrade that failed
brings back what stood there a moment ago, as ``helm upgrade --rollback-on-failure`` does at the upgrade's own level.
"""

from __future__ import annotations

from collections import OrderedDict

from obi_mcp.command.model import Command
from obi_mcp.enforcer.case import Case
from obi_mcp.policy.model import Access, Decision

_MOST = 64
_Key = tuple[str, str, str]


class Upgrades:
    """The revision before the last upgrade of each release, as the check found it."""

    def __init__(self) -> None:
        self._before: OrderedDict[_Key, int] = OrderedDict()

    def begin(self, case: Case) -> None:
        """Notes an upgrade that is about to run; anything else is none."""
        head = case.head
        if head.path != ("upgrade",) or head.program != "helm" or case.decision.access is Access.READ_ONLY:
            return
        if case.revision:
            self._before[_key(head)] = case.revision
            while len(self._before) > _MOST:
                self._before.popitem(last=False)

    def taken_back_by(self, decision: Decision) -> int | None:
        """The revision that the decided roll-back goes to, where that is what stood before our last upgrade."""
        head = decision.pipeline.head if decision.pipeline else None
        if head is None or not decision.allowed or head.program != "helm" or head.path != ("rollback",):
            return None
        before = self._before.get(_key(head))
        return before if before and head.operands[1].text == str(before) else None


def _key(head: Command) -> _Key:
    return head.value("kube-context"), head.value("namespace"), head.operands[0].text
