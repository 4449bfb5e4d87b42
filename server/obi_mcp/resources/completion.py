"""Completion of the words of a template: contexts, namespaces with OBI, OBI's pods.

Nothing here waits for a cluster longer than ``WAIT_S``, and that once: what is not known by then is read on beside it,
for the next time. A cluster that is down makes a completion shorter, not slower.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from obi_mcp.enforcer.watching import Contexts
from obi_mcp.errors import ObiMcpError
from obi_mcp.resources.address import CURRENT, TEMPLATES, Address
from obi_mcp.resources.spec import COMPLETE
from obi_mcp.toolsets.base import Services, ToolCall
from obi_mcp.toolsets.kubernetes.place import Place

WAIT_S = 1.0
FRESH_S = 5.0
READ_S = 5.0
"""How long a read for a completion may take beside it."""
MAX_KNOWN = 32
MAX_VALUES = 100
"""The protocol's limit."""

_PLAIN = re.compile(r"[a-z0-9][-a-z0-9.]{0,252}")
"""What Kubernetes takes for a name: nothing else of a cluster's is offered."""

Names = Callable[[Place], Awaitable[tuple[str, ...]]]
_Key = tuple[str, str | None, str | None]


@dataclass(slots=True)
class _Known:
    """Names as last read. ``reading``: they are being read again, since ``began``."""

    names: tuple[str, ...] = ()
    read: float = -math.inf
    began: float = 0.0
    reading: asyncio.Task[None] | None = field(default=None)


@dataclass(frozen=True, slots=True)
class Completed:
    """At most 100 values; ``total``: how many there are."""

    values: tuple[str, ...] = ()
    total: int = 0


class Completer:
    """Completes for one server, and remembers for a moment what it read."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._known: dict[_Key, _Known] = {}

    async def complete(self, template: str, word: str, begin: str, given: Mapping[str, str], caller: str) -> Completed:
        """The values of ``word`` in the template that begin so; ``given``: the words that are known already."""
        if template not in {spec.uri for spec in TEMPLATES} or f"{{{word}}}" not in template:
            return Completed()
        try:
            contexts = await self._services.enforcer.contexts()
            if word == "context":
                return _chosen(_contexts(contexts), begin)
            return _chosen(await self._names(word, contexts, given, caller), begin)
        except ObiMcpError:  # a completion is an offer: whoever reads the address is told what is wrong
            return Completed()

    async def close(self) -> None:
        """Reads nothing more."""
        reading = [known.reading for known in self._known.values() if known.reading is not None]
        for task in reading:
            task.cancel()
        if reading:
            await asyncio.wait(reading)

    async def _names(self, word: str, contexts: Contexts, given: Mapping[str, str], caller: str) -> tuple[str, ...]:
        scope = self._services.settings.scope
        address = Address(given.get("context", CURRENT), given.get("namespace", scope.default_namespace))
        arguments = {"context": address.argument(contexts), "namespace": address.namespace}
        if word == "pod":
            return await self._read("pod", Place.of(COMPLETE, ToolCall(arguments, caller)), self._pods)
        everywhere = Place.of(COMPLETE, ToolCall({**arguments, "namespace": None}, caller))
        found = await self._read("namespace", everywhere, self._namespaces)
        return tuple(dict.fromkeys((*found, *scope.namespaces)))

    async def _read(self, word: str, place: Place, names: Names) -> tuple[str, ...]:
        """What is known; read anew where it is old, and waited for once and shortly."""
        key = (word, place.context, place.namespace)
        known = self._known.pop(key, None) or _Known()
        self._known[key] = known
        now = time.monotonic()
        if known.reading is None and now - known.read >= FRESH_S:
            if len(self._known) > MAX_KNOWN and not self._forget_one(key):
                del self._known[key]
                return ()
            known.began, known.reading = now, asyncio.ensure_future(_kept(known, names(place)))
        if known.reading is not None and (left_s := known.began + WAIT_S - now) > 0:
            await asyncio.wait({known.reading}, timeout=left_s)
        return known.names

    def _forget_one(self, kept: _Key) -> bool:
        """Makes room: whether another one could be forgotten, the oldest that is not being read."""
        for key, known in self._known.items():
            if key != kept and known.reading is None:
                del self._known[key]
                return True
        return False

    async def _pods(self, place: Place) -> tuple[str, ...]:
        return await self._first(place, "pods", "name")

    async def _namespaces(self, place: Place) -> tuple[str, ...]:
        return await self._first(place, "daemonsets", "namespace")

    async def _first(self, place: Place, kind: str, field: str) -> tuple[str, ...]:
        """That field of OBI's objects of that kind, by the scope's selectors in turn until one finds any."""
        for selector in self._services.settings.scope.selectors:
            call = place.call(f"kubectl get {kind} {place.where} -l '{selector}' -o json", timeout_s=READ_S)
            found = (await self._services.enforcer.read(call)).objects
            names = {str((body.get("metadata") or {}).get(field, "")) for body in found}
            if plain := {name for name in names if _PLAIN.fullmatch(name)}:
                return tuple(sorted(plain))
        return ()


async def _kept(known: _Known, names: Awaitable[tuple[str, ...]]) -> None:
    """What cannot be read leaves what was known."""
    try:
        known.names = await names
    except ObiMcpError:
        pass
    finally:
        known.read, known.reading = time.monotonic(), None


def _contexts(known: Contexts) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*((known.current,) if known.current else ()), *known.named, CURRENT)))


def _chosen(names: tuple[str, ...], begin: str) -> Completed:
    fitting = tuple(name for name in names if name.startswith(begin))
    return Completed(fitting[:MAX_VALUES], len(fitting))
