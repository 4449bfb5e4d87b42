"""Where OBI may be told to send telemetry: the node itself, a service of the cluster, or what the operator configured.

Telemetry sent to an attacker's endpoint is a leak like any other. So the text is held against a narrow grammar of our
own, not taken apart by a URL library that may see another host in it than OBI's does.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from obi_mcp.policy.scope import Scope

HOST_IP = ("${HOST_IP}", "$(HOST_IP)", "${env:HOST_IP}", "$(env:HOST_IP)")
"""The node's address: a variable that the pod fills from status.hostIP. The only one OBI's configuration may use."""

_VARIABLE = "|".join(re.escape(form) for form in HOST_IP)
_URL = re.compile(
    rf"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://)?"
    rf"(?P<host>\[(?:{_VARIABLE}|[0-9A-Fa-f:]+)\]|{_VARIABLE}|[A-Za-z0-9_.-]+)"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[A-Za-z0-9._~/-]*)?"
)
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_SERVICE = re.compile(rf"{_LABEL}\.(?P<namespace>{_LABEL})(?P<svc>\.svc(?:\.cluster\.local)?)?")
# Short names that are top-level domains, too: `otel.dev` in a cluster without that service is a host on the Internet.
_ALSO_DOMAINS = frozenset(
    {"ai", "app", "biz", "cloud", "co", "com", "dev", "info", "io", "me", "net", "network", "online", "org", "prod"}
    | {"services", "site", "store", "systems", "tech", "tools", "xyz", "zone"}
)
_WAY_OUT = (
    "a collector of the same host (http://127.0.0.1:4318, from a pod http://$(HOST_IP):4318), of the cluster "
    "(http://NAME.NAMESPACE.svc:4318), or one that scope.endpoints lists"
)


def judge_endpoint(value: object, scope: Scope) -> str | None:
    """Why OBI may not be told to send to ``value``; None when it may. An empty value is unset.

    Takes URLs (``http``, ``https``), ``host:port`` and bare hosts. The reason is a whole sentence with the way out.
    """
    if value is None or value == "":
        return None
    match = _URL.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return _misformed(str(value))
    if match["scheme"] not in (None, "http", "https"):
        return f"the scheme {match['scheme']!r} of {value!r} is none OBI may send by; use http or https"
    if match["port"] is not None and not 0 < int(match["port"]) < 65536:
        return f"{value!r} has no port between 1 and 65535"
    if _is_local(match["host"]) or _is_service(match["host"], scope) or _is_configured(match, scope):
        return None
    return f"OBI may not send telemetry to {match['host']!r}; use {_WAY_OUT}"


def _misformed(value: str) -> str:
    shown = value if len(value) <= 80 else value[:77] + "…"
    authority = value.partition("://")[2].partition("/")[0]
    if "@" in authority:
        return "an endpoint with a user or password in it; credentials come from a secret that the operator allows"
    if "$" in value:
        return f"{shown!r} takes part of its address from the environment; only $(HOST_IP) may stand there"
    return f"{shown!r} is no address we read; use {_WAY_OUT}"


def _is_local(host: str) -> bool:
    bare = host[1:-1] if host.startswith("[") else host
    if bare in HOST_IP or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback and (":" in bare) == host.startswith("[")
    except ValueError:
        return False


def _is_service(host: str, scope: Scope) -> bool:
    match = _SERVICE.fullmatch(host)
    if match is None:
        return False
    if match["svc"]:
        return True
    # Two labels alone may be a host on the Internet (`evil.example`): they count where the second is a namespace that
    # the configuration knows. INVARIANT: what ends in .svc or .svc.cluster.local never leaves the cluster's DNS.
    known = {*scope.namespaces, scope.default_namespace, *scope.instrumented_namespaces}
    return match["namespace"] in known and match["namespace"] not in _ALSO_DOMAINS


def _is_configured(match: re.Match[str], scope: Scope) -> bool:
    return any(_covers(entry, match) for entry in scope.endpoints)


def _covers(entry: str, match: re.Match[str]) -> bool:
    """An entry is a host, ``*.domain``, ``host:port`` or a URL; every part that it has must be the same."""
    wildcard = entry.startswith("*.")
    allowed = _URL.fullmatch(entry[2:] if wildcard else entry)
    if allowed is None:
        return False
    host, known = match["host"].lower(), allowed["host"].lower()
    same = host.endswith("." + known) if wildcard else host == known
    path = allowed["path"] or ""
    return (
        same
        and allowed["scheme"] in (None, match["scheme"])
        and allowed["port"] in (None, match["port"])
        and (path in ("", "/") or match["path"] == path)
    )
