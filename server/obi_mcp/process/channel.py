"""The warm channel: one ``kubectl proxy`` per context on a private unix socket, for the server's own reads.

It is kubectl that holds the credentials and speaks to the cluster, and it cannot write: other methods and other paths
are refused here, and once more by the proxy's own filter.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager, nullcontext
from typing import Any, TypeVar

from obi_mcp.config import Settings
from obi_mcp.errors import ClusterUnreachable, ProgramFailed
from obi_mcp.process import api_path
from obi_mcp.process.container import unreachable_step
from obi_mcp.process.http import BadAnswer, Connection, Gone, Head
from obi_mcp.process.json_values import Collected
from obi_mcp.process.obstacle import find_obstacle, unsent_credentials
from obi_mcp.process.proxy import Proxy
from obi_mcp.process.runner import Runner
from obi_mcp.process.turns import Turns

MAX_BODY_BYTES = 67_108_864
MAX_IN_FLIGHT = 32
IDLE_S = 300.0
AFTER_WATCH_S = 5.0
"""How long the proxy of a watch outlives the last read through it, when the last watch has gone."""
_JSON = "application/json"
_LAST_BREATH_S = 0.5
_AT_ONCE_BYTES = 131_072
_SAID_CHARACTERS = 300
# What the API server says where the pod or service behind a proxy path does not answer (apimachinery's proxy handler).
_POD_SILENT = b"error trying to reach service"
_T = TypeVar("_T")


class Channel:
    """Reads of one context. Started by its first read, and again when its proxy or the kubeconfig has changed."""

    def __init__(
        self,
        runner: Runner,
        context: str | None,
        *,
        idle_s: float = IDLE_S,
        allows: Callable[[str], bool] = api_path.is_read_path,
    ) -> None:
        """``context`` None: the current one. ``idle_s``: the proxy is stopped when nothing was read for so long.

        ``allows`` says which paths may be read.
        """
        self._runner = runner
        self._context = context
        self._idle_s = self._kept_s = idle_s
        self._allows = allows
        self._proxy: Proxy | None = None
        self._proxy_starts = asyncio.Lock()
        self._idle: list[Connection] = []
        self._in_flight = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._reading = 0
        self._held = 0
        self._used = -math.inf
        """When something was last read that may be read again soon; watches and their own reads are none of it."""
        self._watch: asyncio.TimerHandle | None = None
        self._stopping: asyncio.Future[None] | None = None

    @property
    def turns(self) -> Turns:
        """Who may use the event loop for long."""
        return self._runner.turns

    async def get_json(
        self, path: str, *, timeout_s: float = 10.0, prolongs: bool = True
    ) -> tuple[int, Mapping[str, Any]]:
        """One GET: the status, and the body as JSON (empty where it is none). ``prolongs``: the proxy is kept for more
        of its kind.

        Raises: ClusterUnreachable when no API server answers, ProgramFailed for a path that is not read here or a
        body of more than 64 MiB, ProgramMissing for a credential plugin that is not installed.
        """
        body = bytearray()
        head: Head | None = None
        async for part in self._get(path, accept=_JSON, timeout_s=timeout_s, prolongs=prolongs):
            if isinstance(part, Head):
                head = part
                continue
            body += part
            if len(body) > MAX_BODY_BYTES:
                raise ProgramFailed(f"the API server's answer for {path[:100]} has more than {MAX_BODY_BYTES} bytes")
        if head is None:  # INVARIANT: _get gives the head first
            raise ProgramFailed("there was no answer")
        if not head.is_json and (head.status >= 500 or head.status == 403):
            raise refused(head.status, bytes(body), path)
        return head.status, await read_object(bytes(body), path, self._runner.turns) if head.is_json else {}

    async def stream(self, path: str, *, timeout_s: float = 10.0, accept: str = "*/*") -> AsyncIterator[bytes]:
        """One GET whose body comes in pieces; ``timeout_s`` bounds the wait for each. Redirects are not followed.

        Raises: as ``get_json``, and ProgramFailed for any status but 200, with what the body says.
        """
        async with aclosing(self._get(path, accept=accept, timeout_s=timeout_s)) as parts:
            async for piece in _body_of(parts, path):
                yield piece

    async def watch(self, path: str, *, quiet_s: float) -> AsyncGenerator[bytes, None]:
        """One GET that goes on until the other side or the reader ends it, in pieces; ``quiet_s`` bounds the silence.

        It takes none of the places of other reads. Raises: as ``stream``.
        """
        async with aclosing(self._get(path, accept="*/*", timeout_s=quiet_s, lasting=True, prolongs=False)) as parts:
            async for piece in _body_of(parts, path):
                yield piece

    @contextmanager
    def held(self) -> Iterator[None]:
        """For a watch: when the last one has gone, the proxy ends with it, or soon after the last read by others."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            if not self._held and self._proxy is not None:
                self._kept_s = min(self._idle_s, AFTER_WATCH_S)
                self._watch_idleness()

    async def close(self) -> None:
        """Ends the proxy."""
        if self._watch is not None:
            self._watch.cancel()
        await self._stop()
        if self._stopping is not None:
            await self._stopping

    async def _get(
        self, path: str, *, accept: str, timeout_s: float, lasting: bool = False, prolongs: bool = True
    ) -> AsyncGenerator[Head | bytes, None]:
        """The head, then the body in pieces."""
        if not self._allows(path):
            raise ProgramFailed(f"the server does not read the path {path[:200]!r} of the API server")
        async with nullcontext() if lasting else self._in_flight:
            self._reading += 1
            kept: Connection | None = None
            try:
                connection, head = await self._within(self._ask(path, accept), timeout_s)
                kept = connection
                if head.status in {401, 403}:
                    self._raise_if_nothing_is_sent()
                yield head
                body = connection.body(head)
                while (piece := await self._within(anext(body, b""), timeout_s)) != b"":
                    yield piece
            except (BadAnswer, OSError) as error:
                raise ClusterUnreachable(f"kubectl proxy gave no answer: {error}", "try again") from None
            finally:
                self._reading -= 1
                if prolongs:
                    self._used = time.monotonic()
                self._give_back(kept)

    def _raise_if_nothing_is_sent(self) -> None:
        """Raises: ConfigError where the refusal is no wonder, since kubectl sends no credentials."""
        context = self._runner.sandbox.kubeconfig.context(self._context)
        unsent = unsent_credentials(context) if context is not None else None
        if unsent is not None:
            raise unsent

    async def _within(self, work: Awaitable[_T], timeout_s: float) -> _T:
        try:
            async with asyncio.timeout(timeout_s):
                return await work
        except TimeoutError:
            name = self._context or self._runner.sandbox.kubeconfig.current or "the current context"
            raise ClusterUnreachable(
                f"no answer from the API server of {name} within {timeout_s:g} s",
                "check that it can be reached (obi-mcp doctor), or give a larger timeout_s",
            ) from None

    async def _ask(self, path: str, accept: str) -> tuple[Connection, Head]:
        """Asks; once more where the proxy has died in between, which is heard of a moment after it can be seen."""
        proxy = await self._running()
        try:
            return await self._ask_proxy(proxy, path, accept)
        except OSError:
            if not await proxy.ends_within(_LAST_BREATH_S):
                raise
        return await self._ask_proxy(await self._running(), path, accept)

    async def _ask_proxy(self, proxy: Proxy, path: str, accept: str) -> tuple[Connection, Head]:
        while self._idle:
            kept = self._idle.pop()
            try:
                return kept, await kept.get(path, accept=accept)
            except Gone:
                kept.close()  # kept too long: ask again on another
            except BaseException:
                kept.close()
                raise
        fresh = await Connection.open(proxy.socket)
        try:
            return fresh, await fresh.get(path, accept=accept)
        except BaseException:
            fresh.close()
            raise

    def _give_back(self, connection: Connection | None) -> None:
        if connection is None:
            return
        if connection.reusable and self._proxy is not None:
            self._idle.append(connection)
        else:
            connection.close()

    async def _running(self) -> Proxy:
        sandbox = self._runner.sandbox
        context = await sandbox.prepare(self._context)
        if self._proxy is not None and self._proxy.serves(sandbox.version):
            return self._proxy
        async with self._proxy_starts:
            if self._proxy is None or not self._proxy.serves(sandbox.version):
                await self._stop()
                obstacle = find_obstacle(sandbox.kubeconfig, context, sandbox.missing_plugin(context))
                if obstacle is not None and obstacle.certain:
                    raise obstacle.error
                self._proxy = await Proxy.start(self._runner, self._context, context)
                self._kept_s = self._idle_s
                self._watch_idleness()
            return self._proxy

    async def _stop(self) -> None:
        proxy, self._proxy = self._proxy, None
        for connection in self._idle:
            connection.close()
        self._idle.clear()
        if proxy is not None:
            await proxy.stop()

    def _watch_idleness(self) -> None:
        """Ends the proxy when nothing is read and nothing was for long enough; else looks again in time."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        left = self._used + self._kept_s - time.monotonic()
        if left <= 0 and not self._reading and not self._held:
            self._stopping = asyncio.ensure_future(self._stop())
            return
        self._watch = asyncio.get_running_loop().call_later(max(left, self._kept_s / 10), self._watch_idleness)


class PassingReads:
    """Reads by a channel for a watch: they do not keep its proxy for later."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def get_json(self, path: str, *, timeout_s: float = 10.0) -> tuple[int, Mapping[str, Any]]:
        """As ``Channel.get_json``."""
        return await self._channel.get_json(path, timeout_s=timeout_s, prolongs=False)


class Channels:
    """The channels of a server, by context."""

    def __init__(self, settings: Settings, runner: Runner) -> None:
        self._settings = settings
        self._runner = runner
        self._channels: dict[str | None, Channel] = {}

    def of(self, context: str | None) -> Channel:
        """The channel of that context, the current one for None. Starts nothing."""
        if context not in self._channels:
            self._channels[context] = Channel(self._runner, context)
        return self._channels[context]

    async def close(self) -> None:
        """Ends all proxies."""
        await asyncio.gather(*(channel.close() for channel in self._channels.values()))


async def _body_of(parts: AsyncIterator[Head | bytes], path: str) -> AsyncIterator[bytes]:
    """The body of a good answer. Raises: ProgramFailed or ClusterUnreachable with what another one says."""
    said = b""
    status = 200
    async for part in parts:
        if isinstance(part, Head):
            status = part.status
        elif status == 200:
            yield part
        elif len(said) < 4096:
            said += part
    if status != 200:
        raise refused(status, said, path)


async def read_object(body: bytes, path: str, turns: Turns) -> Mapping[str, Any]:
    """The body as JSON; a long list item by item, so that others have the event loop in between.

    Raises: ProgramFailed when it is none.
    """
    try:
        if len(body) <= _AT_ONCE_BYTES:
            value = json.loads(body)
        else:
            collected = Collected()
            async for _ in turns.spread(collected.feed(body)):
                pass
            value = collected.value
    except (ValueError, RecursionError) as error:
        raise ProgramFailed(
            f"the API server's answer for {path.partition('?')[0][:150]} is not JSON: {error}",
            "what answers at the kubeconfig's address may be no API server: obi-mcp doctor asks it for its version",
        ) from None
    return value if isinstance(value, dict) else {"value": value}


def _message(body: bytes) -> str:
    """The sentence of a Status of the API server's; of another answer all of it."""
    text = body.decode("utf-8", "replace").strip()
    try:
        value = json.loads(text) if text.startswith('{"kind":"Status"') else None
    except (ValueError, RecursionError):
        return text
    message = value.get("message") if isinstance(value, dict) else None
    return message if isinstance(message, str) and message else text


def refused(status: int, body: bytes, path: str) -> ProgramFailed | ClusterUnreachable:
    """What an answer that is none means: the pod behind a proxy path is silent or knows no such path, or kubectl proxy
    (which then answers in plain text) did not reach the API server or does not want to."""
    said, asked = _message(body)[:_SAID_CHARACTERS], path.partition("?")[0][:150]
    if status >= 500 and _POD_SILENT in body:
        return ProgramFailed(
            f"the pod does not answer at {asked}: {said}",
            "it declares the port and does not listen on it: read its logs, or ask another pod",
        )
    if status >= 500:
        return ClusterUnreachable(
            f"kubectl could not get {asked}: {said}",
            f"{unreachable_step(said)}; obi-mcp doctor looks at more",
        )
    if status == 404 and "/proxy/" in asked:
        return ProgramFailed(
            f"404 for {asked}: {said}",
            "the pod answers and has no such path; the paths are metrics, internal/metrics and healthz",
        )
    return ProgramFailed(f"{status} for {asked}: {said}")
