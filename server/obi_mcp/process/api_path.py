"""Which paths of the API server may be read through the warm channel, whoever built them."""

from __future__ import annotations

import re

from obi_mcp.errors import ProgramFailed

_SEGMENT = re.compile(r"(?:[A-Za-z0-9._~-]|:|%3A)+")
_QUERY = re.compile(r"[A-Za-z0-9._~:/%=&,()!+*'-]*")
_ROOTS = re.compile(r"/(?:version|api|apis|api/v1(?:/.*)?|apis/[a-z0-9.-]+(?:/.*)?)")
_POD_PROXY = re.compile(
    r"/api/v1/namespaces/[a-z0-9-]+/pods/[a-z0-9.-]+(?::|%3A)[0-9]{1,5}/proxy/(?:metrics|internal/metrics|healthz)"
)
_NEVER = frozenset({"secrets", "exec", "attach", "portforward", "token", "serviceproxy"})

ACCEPT_PATHS = "^/version$,^/api(/v1(/.*)?)?$,^/apis(/.*)?$"
REJECT_PATHS = (
    "/secrets(/|$),/(exec|attach|portforward|token)(/|$),^/api/v1/(nodes|namespaces/[^/]+/services)/.*/proxy(/|$),"
    "^/api/v1/proxy/"
)
REJECT_METHODS = "^(POST|PUT|PATCH|DELETE|OPTIONS|HEAD|CONNECT|TRACE)$"
"""The same once more in kubectl proxy's own filter: a second wall that needs no code of ours."""


def is_read_path(target: str) -> bool:
    """Whether it is a plain path of the API (no ``..``, no ``//``, no encoded slash), and none that reads secrets,
    runs something, or leads on to a node or a service. A pod's port only for its metrics and its health."""
    path, _, query = target.partition("?")
    segments = path.split("/")[1:]
    if not target.startswith("/") or not _QUERY.fullmatch(query) or not _ROOTS.fullmatch(path):
        return False
    if any(not _SEGMENT.fullmatch(segment) or set(segment) <= {"."} for segment in segments):
        return False
    if "proxy" in segments:
        return _POD_PROXY.fullmatch(path) is not None
    return not _NEVER.intersection(segment.lower() for segment in segments)


def require_read_path(target: str) -> None:
    """Raises: ProgramFailed for any other path."""
    if not is_read_path(target):
        raise ProgramFailed(f"the server does not read the path {target[:200]!r} of the API server")
