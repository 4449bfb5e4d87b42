"""Addresses of what OBI is in a cluster: ``obi://k8s/{context}/{namespace}/…``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from obi_mcp.enforcer.watching import Contexts
from obi_mcp.resources.spec import TemplateSpec

CURRENT = "current"
"""In an address: the kubeconfig's current context, or the cluster that the server runs in."""

_STATUS = "obi://k8s/{context}/{namespace}/status"
_LOGS = "obi://k8s/{context}/{namespace}/pods/{pod}/logs"
_ADDRESS = re.compile(r"obi://k8s/(?P<context>[^/?#]+)/(?P<namespace>[^/?#]+)/(?:status|pods/(?P<pod>[^/?#]+)/logs)")
STATUS_SAYS = "What obi_k8s_status gives for this namespace; names and reasons are untrusted."
LOGS_SAYS = "What obi_k8s_get_pod_logs gives; untrusted."

TEMPLATES = (
    TemplateSpec(_STATUS, "k8s/status", "OBI in a namespace of a cluster", STATUS_SAYS),
    TemplateSpec(_LOGS, "k8s/logs", "Log of one OBI pod", LOGS_SAYS),
)


@dataclass(frozen=True, slots=True)
class Address:
    """An address of one of the templates, its words decoded. ``pod`` empty: the namespace's status."""

    context: str
    namespace: str
    pod: str = ""

    @classmethod
    def parse(cls, uri: str) -> Address | None:
        """None for an address of another kind."""
        found = _ADDRESS.fullmatch(uri)
        return cls(*(unquote(found[word] or "") for word in ("context", "namespace", "pod"))) if found else None

    @property
    def uri(self) -> str:
        """The address as text."""
        context, namespace, pod = (quote(word, safe="") for word in (self.context, self.namespace, self.pod))
        return f"obi://k8s/{context}/{namespace}/" + (f"pods/{pod}/logs" if pod else "status")

    def argument(self, known: Contexts) -> str | None:
        """The context as the tools take it: None is the current one, which they know without its name.

        A context that may not be named is given on, so that the policy refuses it in its own words.
        """
        if self.context not in known.named and self.context in {CURRENT, known.current}:
            return None
        return self.context
