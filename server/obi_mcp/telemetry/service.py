"""OTLP over HTTP: one POST in, one answer out. An ASGI application, so that a well-kept library speaks HTTP.

Reading is bounded while it goes on, decoding and storing happen on one thread beside the loop.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from obi_mcp.telemetry.answers import failure, success
from obi_mcp.telemetry.decoding import JSON, Encoding, Refusal, decompressed, encoding_of, read_message
from obi_mcp.telemetry.tables import SIGNALS, Signal

if TYPE_CHECKING:
    from obi_mcp.telemetry.settings import CaptureSettings
    from obi_mcp.telemetry.store import SpanStore

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PATHS: dict[str, Signal] = {f"/v1/{signal}": signal for signal in SIGNALS}
MAX_REQUESTS = 64
"""Requests at once; a sender waits for its answer before the next one."""
_RETRY_AFTER_S = b"1"


class Service:
    """The application. ``closing`` makes it answer 503, so that senders keep what they have."""

    def __init__(self, settings: CaptureSettings, store: SpanStore, worker: Executor) -> None:
        self._settings = settings
        self._store = store
        self._worker = worker
        self._requests = 0
        self._pending_bytes = 0
        self.closing = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        encoding = encoding_of(headers.get(b"content-type", "")) or JSON
        self._requests += 1
        try:
            answer = await self._answer(scope, headers, receive)
        finally:
            self._requests -= 1
        if isinstance(answer, Refusal):
            self._store.refuse(answer.status)
            await _send(send, answer.status, failure(answer.status, answer.message, encoding), encoding)
        else:
            await _send(send, 200, answer, encoding)

    async def _answer(self, scope: Scope, headers: dict[bytes, str], receive: Receive) -> bytes | Refusal:
        signal = PATHS.get(scope["path"])
        refusal = self._refusal(scope, headers, signal)
        if refusal is not None or signal is None:
            return refusal or Refusal(404, f"nothing is received here; send to {', '.join(PATHS)}")
        encoding = encoding_of(headers.get(b"content-type", ""))
        if encoding is None:
            return Refusal(415, "the content type is none of OTLP's: application/x-protobuf or application/json")
        body = bytearray()
        try:
            problem = await asyncio.wait_for(self._read(receive, body), self._settings.body_within_s)
            if problem is not None:
                return problem
            loop = asyncio.get_running_loop()
            content_encoding = headers.get(b"content-encoding", "")
            return await loop.run_in_executor(self._worker, self._take, signal, encoding, bytes(body), content_encoding)
        except TimeoutError:
            return Refusal(408, f"the body did not come within {self._settings.body_within_s:g} s")
        finally:
            self._pending_bytes -= len(body)

    def _refusal(self, scope: Scope, headers: dict[bytes, str], signal: Signal | None) -> Refusal | None:
        """What can be said before the body is read."""
        if not _is_loopback(headers.get(b"host", "")):
            return Refusal(421, "this receiver answers to loopback names only")
        if signal is None:
            return None
        if scope["method"] != "POST":
            return Refusal(405, "telemetry is sent by POST")
        if self.closing:
            return Refusal(503, "the capture is ending")
        length = headers.get(b"content-length", "0")
        if not length.isdigit() or int(length) > self._settings.max_body_bytes:
            return self._too_large()
        if self._requests > MAX_REQUESTS or self._pending_bytes + int(length) > self._settings.max_pending_bytes:
            return self._busy()
        return None

    async def _read(self, receive: Receive, body: bytearray) -> Refusal | None:
        """Fills ``body``. INVARIANT: what is in it is counted in ``_pending_bytes``, and taken off by the caller."""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return Refusal(400, "the sender went away")
            block: bytes = message.get("body", b"")
            body += block
            self._pending_bytes += len(block)
            if len(body) > self._settings.max_body_bytes:
                return self._too_large()
            if self._pending_bytes > self._settings.max_pending_bytes:
                return self._busy()
            if not message.get("more_body", False):
                return None

    def _take(self, signal: Signal, encoding: Encoding, body: bytes, content_encoding: str) -> bytes | Refusal:
        plain = decompressed(body, content_encoding, self._settings.max_decoded_bytes)
        if isinstance(plain, Refusal):
            return plain
        message = read_message(signal, encoding, plain)
        if isinstance(message, Refusal):
            return message
        batch = self._store.take(signal, message)
        return success(signal, encoding, sum(batch.rejected.values()), "; ".join(sorted(batch.rejected)))

    def _too_large(self) -> Refusal:
        return Refusal(413, f"a request has at most {self._settings.max_body_bytes:,} bytes; send smaller batches")

    def _busy(self) -> Refusal:
        return Refusal(429, "more is being sent than can be stored; send this again later")


def _is_loopback(host: str) -> bool:
    """Whether a Host header names this machine: a page in a browser may have had its name resolve to us."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


async def _send(send: Send, status: int, body: bytes, encoding: Encoding) -> None:
    headers = [(b"content-type", encoding.encode()), (b"content-length", str(len(body)).encode())]
    if status in (429, 503):
        headers.append((b"retry-after", _RETRY_AFTER_S))
    if status == 405:
        headers.append((b"allow", b"POST"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
