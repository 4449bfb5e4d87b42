"""One endpoint of many of OBI's pods at once: the list is decided and proved, then each ``get --raw`` as if typed.

Each pod's request is a command line of its own, with a decision, a proof and a line in the audit log; only the pod is
not looked up again, since it has just been listed. What a pod answers is handed over in pieces and not kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from obi_mcp.enforcer.members import Found
from obi_mcp.enforcer.reading import POD_S, node_of
from obi_mcp.errors import ObiMcpError, ProgramFailed
from obi_mcp.policy.model import Decision

IN_FLIGHT = 16

Sink = Callable[[bytes], None]
"""Takes pieces of one pod's answer. Raises: ValueError for what it cannot read."""
Request = Callable[[Found, str, Sink], Awaitable[None]]
"""Proves and makes one pod's request. Raises: what the road raises."""


@dataclass(frozen=True, slots=True)
class Scraped:
    """One pod. ``problem`` says why its answer is not complete, and is None where it is."""

    pod: str
    namespace: str
    node: str
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Scraping:
    """All pods, in the order of their names. ``skipped``: objects that were listed and are not OBI's."""

    pods: tuple[Scraped, ...]
    decision: Decision
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of each pod: the path below its proxy, and the port, by the pod; None: it has none.

    ``sink`` is called once a pod, when its turn comes; ``done`` when it has been read, with the problem if any.
    """

    path: str
    port: Callable[[Mapping[str, Any]], int | None]
    sink: Callable[[str], Sink]
    done: Callable[[Scraped], Awaitable[None]]


async def scrape(pods: list[Found], wanted: Wanted, request: Request, *, within_s: float) -> tuple[Scraped, ...]:
    """Asks every pod, so many at a time. A pod whose turn does not come within ``within_s`` is not asked."""
    gate = asyncio.Semaphore(IN_FLIGHT)
    until = asyncio.get_running_loop().time() + within_s

    async def one(pod: Found) -> Scraped:
        async with gate:
            in_time = asyncio.get_running_loop().time() < until
            problem = await _problem(pod, wanted, request) if in_time else f"it was not asked within {within_s:g} s"
        scraped = Scraped(pod.name, pod.namespace or "", node_of(pod), problem)
        await wanted.done(scraped)
        return scraped

    return tuple(await asyncio.gather(*(one(pod) for pod in sorted(pods, key=lambda pod: pod.name))))


async def _problem(pod: Found, wanted: Wanted, request: Request) -> str | None:
    port = wanted.port(pod.body)
    if port is None:
        return "it declares no port"
    path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}:{port}/proxy/{wanted.path}"
    try:
        async with asyncio.timeout(POD_S):
            await request(pod, f"kubectl get --raw {path}", wanted.sink(pod.name))
    except TimeoutError:
        return f"no answer within {POD_S:g} s"
    except ObiMcpError as error:
        return error.message
    return None


def at_most(sink: Sink, most: int) -> Sink:
    """The sink, for so many bytes. Raises: ProgramFailed for more, or where the sink cannot read them."""
    left = most

    def take(piece: bytes) -> None:
        nonlocal left
        left -= len(piece)
        if left < 0:
            raise ProgramFailed(f"it serves more than {most} bytes")
        try:
            sink(piece)
        except ValueError as error:
            raise ProgramFailed(f"what it serves cannot be read: {error}") from None

    return take
