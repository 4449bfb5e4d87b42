"""A DOUBLE before the sandbox's real API server that fails in the middle of one write, whenever that comes.

Reads and dry runs pass, so that what a server does about a failed write is seen with the cluster's real answers.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import urlsplit

from tests.sandbox.sandbox import Sandbox

TIMEOUT_S = 120.0
AWAY_S = 0.6
WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})

How = Literal[
    "cut before",
    "cut after",
    "answers",
    "hangs before",
    "hangs after",
    "dies before",
    "dies after",
    "goes before",
    "goes after",
]
"""``before``, ``after``: the request has not been executed, or has been. ``cut``: the connection; ``dies``: the whole
server, for a moment; ``goes``: the same, until it is called back."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What happens to a write. ``times``: to how many in a row from then on."""

    name: str
    how: How
    status: int = 0
    reason: str = ""
    message: str = ""
    retry_after: str = ""
    times: int = 1


@dataclass
class FailingServer:
    """Listens at ``address``. ``writes``: those that came since ``arm``; ``failed``: whether the failure has struck."""

    sandbox: Sandbox
    port: int = 0
    writes: list[tuple[str, str]] = field(default_factory=list)
    struck: threading.Event = field(default_factory=threading.Event)
    let_go: threading.Event = field(default_factory=threading.Event)
    _failure: Failure | None = None
    _write: tuple[str, str] = ("", "")
    _at: int | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _listening: ThreadingHTTPServer | None = None
    _open: set[socket.socket] = field(default_factory=set)
    _away: threading.Timer | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def arm(self, failure: Failure | None, write: str = "") -> None:
        """From now on the writes are counted, and that one (``POST /api/v1/…``) fails."""
        self.let_go.set()
        self.come_back()
        self.struck.clear()
        self.let_go = threading.Event()
        with self._lock:
            verb, _, path = write.partition(" ")
            self.writes, self._failure, self._write, self._at = [], failure, (verb, path), None

    def failing(self, verb: str, path: str) -> Failure | None:
        """What is to happen to this request."""
        if (
            verb not in WRITES
            or "dryRun=All" in path
            or "authorization.k8s.io" in path.split("?", maxsplit=1)[0].split("/")[2:3]
        ):
            return None
        with self._lock:
            number, write, failure = len(self.writes), (verb, path.partition("?")[0]), self._failure
            self.writes.append(write)
            if self._at is None and write == self._write:
                self._at = number
            if failure is None or self._at is None or number >= self._at + failure.times:
                return None
        self.struck.set()
        return failure

    # --- the process of the server, as it were ---

    def start(self) -> None:
        handler = type("Handler", (_Handler,), {"double": self})
        made = _Listening(("127.0.0.1", self.port), handler)
        self.port = made.server_address[1]
        self._listening = made
        threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Nobody listens any more, and whoever was connected is cut."""
        made, self._listening = self._listening, None
        if made is not None:
            made.shutdown()
            made.server_close()
        for connection in list(self._open):
            hang_up(connection)

    def go_away(self, *, for_good: bool) -> None:
        self.stop()
        if not for_good:
            self._away = threading.Timer(AWAY_S, self.come_back)
            self._away.start()

    def come_back(self) -> None:
        if self._away is not None:
            self._away.cancel()
            self._away = None
        if self._listening is None:
            self.start()

    def opened(self, connection: socket.socket) -> None:
        self._open.add(connection)

    def closed(self, connection: socket.socket) -> None:
        self._open.discard(connection)

    def real(self, handler: BaseHTTPRequestHandler, body: bytes | None) -> tuple[int, str, bytes]:
        """What the real one answers, to an administrator."""
        user = json.loads(self.sandbox.kubeconfig.read_text())["users"][0]["user"]
        place = urlsplit(self.sandbox.api_server)
        context = ssl.create_default_context(cafile=str(self.sandbox.instance.certificates / "ca.crt"))
        connection = http.client.HTTPSConnection(
            place.hostname or "", place.port or 443, timeout=TIMEOUT_S, context=context
        )
        kept = {key: value for key in ("Accept", "Content-Type", "User-Agent") if (value := handler.headers.get(key))}
        try:
            connection.request(
                handler.command, handler.path, body, {**kept, "Authorization": f"Bearer {user['token']}"}
            )
            answer = connection.getresponse()
            return answer.status, answer.headers.get("Content-Type", ""), answer.read()
        finally:
            connection.close()


class _Listening(ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that was cut: that is what this server is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    double: FailingServer

    def setup(self) -> None:
        super().setup()
        self.double.opened(self.connection)

    def finish(self) -> None:
        self.double.closed(self.connection)
        with suppress(OSError):
            super().finish()

    def do_GET(self) -> None:
        body = self._body()
        failure = self.double.failing(self.command, self.path)
        if failure is None:
            self._answer(*self.double.real(self, body))
        else:
            self._fail(failure, body)

    def _body(self) -> bytes | None:
        if self.headers.get("Transfer-Encoding") != "chunked":  # as kubectl delete --raw sends it
            return self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
        body = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        return

    def _fail(self, failure: Failure, body: bytes | None) -> None:
        if failure.how == "answers":
            said = {
                "kind": "Status",
                "apiVersion": "v1",
                "status": "Failure",
                "message": failure.message or f"the double says {failure.reason}",
                "reason": failure.reason,
                "code": failure.status,
            }
            headers = (("Retry-After", failure.retry_after),) if failure.retry_after else ()
            self._answer(failure.status, "application/json", json.dumps(said).encode(), headers)
            return
        self.close_connection = True
        let_go = self.double.let_go
        if failure.how.endswith("after"):
            self.double.real(self, body)
        if failure.how.startswith("hangs"):
            let_go.wait(TIMEOUT_S)
        elif failure.how.startswith(("dies", "goes")):
            threading.Thread(
                target=self.double.go_away, kwargs={"for_good": failure.how.startswith("goes")}, daemon=True
            ).start()
            let_go.wait(1.0)  # until the connection is cut with all the others
        hang_up(self.connection)

    def _answer(self, status: int, kind: str, body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def hang_up(connection: socket.socket) -> None:
    """Cuts a connection, whoever waits on it."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def failing_server(sandbox: Sandbox) -> Iterator[FailingServer]:
    """The double, while the block runs."""
    double = FailingServer(sandbox)
    double.start()
    try:
        yield double
    finally:
        double.arm(None)
        double.let_go.set()
        double.stop()


CHANGED = (
    "Operation cannot be fulfilled on {}: the object has been modified; please apply your changes to the latest version"
)
FAILURES = (
    Failure("connection cut before the request arrives", "cut before"),
    Failure("connection cut after it was executed", "cut after"),
    Failure("409", "answers", 409, "Conflict", CHANGED),
    Failure("429 with Retry-After", "answers", 429, "TooManyRequests", retry_after="1"),
    Failure("429 again and again", "answers", 429, "TooManyRequests", times=1_000),
    Failure("500", "answers", 500, "InternalError"),
    Failure("500 again and again", "answers", 500, "InternalError", times=3),
    Failure("503", "answers", 503, "ServiceUnavailable"),
    Failure("503 with Retry-After", "answers", 503, "ServiceUnavailable", retry_after="1"),
    Failure("hangs, not executed", "hangs before"),
    Failure("hangs, executed", "hangs after"),
    Failure("killed before it was executed, comes back", "dies before"),
    Failure("killed after it was executed, comes back", "dies after"),
    Failure("killed before it was executed, stays away", "goes before"),
    Failure("killed after it was executed, stays away", "goes after"),
)
