"""What changes a resource of a cluster: watches of OBI's objects, and logs that grow."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from obi_mcp.audit import AuditEntry
from obi_mcp.enforcer.model import Call
from obi_mcp.enforcer.watching import Contexts, Seen
from obi_mcp.errors import Denied
from obi_mcp.resources.address import Address
from obi_mcp.resources.spec import SUBSCRIBE, Source
from obi_mcp.toolsets.base import Services, ToolCall
from obi_mcp.toolsets.kubernetes.place import Place, name

_KINDS = ("daemonsets", "deployments", "pods")
"""What a status tells of, deployments for the k8s-cache."""


async def watched(address: Address, services: Services, caller: str) -> Source:
    """A resource of a cluster: its OBI's workloads and pods, or the one pod's log.

    A place has a stream for each kind and each of the scope's selectors, which no single selector could join.

    Raises: Denied, with a line in the audit log, InvalidArgument, ConfigError.
    """
    known = await services.enforcer.contexts()
    if address.pod:
        commands = [f"kubectl logs {name(address.pod, 'pod')} -n {_namespace(address)}"]
    else:
        tails = [f"-n {_namespace(address)} -l '{selector}' -o json" for selector in services.settings.scope.selectors]
        commands = [f"kubectl get {kind} {tail}" for tail in tails for kind in _KINDS]
    streams = [_Watch(services, address, caller, command) for command in commands]
    for stream in streams:
        stream.require_allowed(known)
    context = known.current if address.argument(known) is None else address.context
    return Source((context, address.namespace, address.pod), tuple(stream.open for stream in streams))


def _namespace(address: Address) -> str:
    return name(address.namespace, "namespace")


class _Watch:
    """One stream of a place or a pod, over all its connections."""

    def __init__(self, services: Services, address: Address, caller: str, command: str) -> None:
        self._services = services
        self._address = address
        self._caller = caller
        self._command = command
        self._seen = Seen()
        self._stood = False
        self._ended = time.monotonic()
        """When it was last known that nothing of a log was missed."""

    def require_allowed(self, known: Contexts) -> None:
        """Raises: Denied, with a line in the audit log."""
        call = self._call(known, self._command)
        decision = self._services.enforcer.explain(call)
        if not decision.allowed:
            self._services.audit.record(
                AuditEntry(SUBSCRIBE, call.command, self._caller, decision=decision, error=Denied.code)
            )
            raise Denied(decision)

    async def open(self) -> AsyncGenerator[bool, None]:
        """One connection. The first that stands counts as a change: whatever happened since the subscription."""
        known = await self._services.enforcer.contexts()
        enforcer = self._services.enforcer
        if self._address.pod:
            since = f" --since={round(time.monotonic() - self._ended) + 1}s"
            changes = enforcer.follow(self._call(known, self._command + since))
        else:
            changes = enforcer.watch(self._call(known, self._command), self._seen)
        stands = False
        try:
            async with aclosing(changes):
                async for changed in changes:
                    stands = True
                    yield changed or not self._stood
                    self._stood = True
        finally:
            if stands:
                self._ended = time.monotonic()

    def _call(self, known: Contexts, command: str) -> Call:
        arguments = {"context": self._address.argument(known)}
        return Place.of(SUBSCRIBE, ToolCall(arguments, self._caller)).call(command)
