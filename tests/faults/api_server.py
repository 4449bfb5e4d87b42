"""A DOUBLE that stands before the sandbox's real API server: it passes requests on, and fails as it is told.

Without TLS and without credentials of its own callers' (it adds the administrator's), on loopback alone.
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

How = Literal["answers", "is silent", "cuts the head", "cuts the body", "hangs within the body", "no HTTP", "no JSON"]
TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a request. ``channel``: only to the server's own reads (True), only to kubectl's (False), or
    to both (None). ``path``: only to paths that it is part of."""

    how: How
    status: int = 0
    reason: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    channel: bool | None = None
    path: str = ""

    def concerns(self, path: str, agent: str) -> bool:
        return self.path in path and self.channel in (None, agent == "obi-mcp")


@dataclass
class ApiServer:
    """Listens at ``address``. ``fault`` None: everything is passed on. ``seen``: how many requests came."""

    sandbox: Sandbox
    address: str = ""
    fault: Fault | None = None
    seen: int = 0
    let_go: threading.Event = field(default_factory=threading.Event)

    def real(self, verb: str, path: str, body: bytes | None, kind: str) -> tuple[int, str, bytes]:
        """What the real one answers."""
        user = json.loads(self.sandbox.kubeconfig.read_text())["users"][0]["user"]
        place = urlsplit(self.sandbox.api_server)
        context = ssl.create_default_context(cafile=str(self.sandbox.instance.certificates / "ca.crt"))
        connection = http.client.HTTPSConnection(
            place.hostname or "", place.port or 443, timeout=TIMEOUT_S, context=context
        )
        try:
            headers = {"Authorization": f"Bearer {user['token']}", "Accept": "application/json", "Content-Type": kind}
            connection.request(verb, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers.get("Content-Type", ""), answer.read()
        finally:
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    double: ApiServer

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:
        return

    def _serve(self) -> None:
        self.double.seen += 1
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
        fault = self.double.fault
        if fault is None or not fault.concerns(self.path, self.headers.get("User-Agent", "")):
            self._answer(*self.double.real(self.command, self.path, body, self.headers.get("Content-Type", "")))
            return
        with suppress(OSError):
            self._fail(fault)
        self.close_connection = True

    def _fail(self, fault: Fault) -> None:
        match fault.how:
            case "answers":
                said = {
                    "kind": "Status",
                    "apiVersion": "v1",
                    "status": "Failure",
                    "message": f"the double says {fault.reason}",
                    "reason": fault.reason,
                    "code": fault.status,
                }
                self._answer(fault.status, "application/json", json.dumps(said).encode(), fault.headers)
            case "is silent":
                self.double.let_go.wait(TIMEOUT_S)
            case "cuts the head":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-")
                self._hang_up()
            case "no HTTP":
                self.wfile.write(b"220 this is no HTTP\r\n\r\n")
                self._hang_up()
            case "no JSON":
                self._answer(200, "application/json", b'{"kind": "PodList", "items": [{]')
            case "cuts the body" | "hangs within the body":
                status, kind, body = self.double.real(self.command, self.path, None, "")
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                if fault.how == "hangs within the body":
                    self.double.let_go.wait(TIMEOUT_S)
                self._hang_up()

    def _answer(self, status: int, kind: str, body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _hang_up(self) -> None:
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def api_server(sandbox: Sandbox) -> Iterator[ApiServer]:
    """The double, while the block runs."""
    double = ApiServer(sandbox)
    handler = type("Handler", (_Handler,), {"double": double})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        listening.daemon_threads = True
        double.address = f"http://127.0.0.1:{listening.server_address[1]}"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield double
        finally:
            double.let_go.set()
            listening.shutdown()
            thread.join()
