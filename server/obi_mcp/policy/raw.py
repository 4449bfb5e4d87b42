"""``kubectl get --raw``: three paths of an OBI pod's own port, fetched by the server's channel and never by kubectl.

kubectl follows a redirect to another host with the token, and normalises ``..``, ``%2e%2e`` and ``//``; so the path is
matched as a whole, and the argv that a decision shows is the caller's own.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from obi_mcp.policy.model import Check, RawSpec

if TYPE_CHECKING:
    from obi_mcp.policy.draft import Draft

_PATH = re.compile(
    r"/api/v1/namespaces/(?P<namespace>[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)"
    r"/pods/(?P<pod>[a-z0-9](?:[-a-z0-9]{0,251}[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]{0,251}[a-z0-9])?)*)"
    r":(?P<port>[1-9][0-9]{0,4})/proxy/(?P<path>metrics|internal/metrics|healthz)"
)
_MAX_PATH = 512


def read_raw(path: str) -> RawSpec | None:
    """What a raw path asks for, or None for every path but the three."""
    match = _PATH.fullmatch(path) if len(path) <= _MAX_PATH else None
    if match is None or int(match["port"]) > 65_535:
        return None
    return RawSpec(match["namespace"], match["pod"], int(match["port"]), match["path"])


def judge_raw(draft: Draft) -> None:
    """The namespace is in scope, or one that OBI instruments; the pod and its port are checked. Raises: Denied.

    INVARIANT: ``hard.check`` has refused every path that ``read_raw`` does not know.
    """
    given = draft.command.flag("raw")
    spec = read_raw(given.value) if given else None
    if draft.command.operands or spec is None:
        at = draft.command.operands[0] if draft.command.operands else given
        raise draft.deny("--raw stands alone", at=at, repair=draft.with_operands())
    # A sidecar of ours serves its metrics in somebody else's pod; the port has to be its own there, too.
    if spec.namespace not in draft.grounds.namespaces | draft.grounds.instrumented:
        raise draft.deny(
            f"the namespace {spec.namespace} is not one where OBI is installed", at=given, hint=draft.rule.hint
        )
    draft.checks.append(
        Check(
            "membership",
            f"pods/{spec.pod}",
            spec.namespace,
            f"the pod has to be OBI's, and its OBI container has to declare the port {spec.port}",
            spec,
            via="channel",
        )
    )
