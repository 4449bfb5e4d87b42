"""``obi-mcp serve`` as a process, spoken to byte by byte: what no well-behaved client would send."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from tests.faults.place import Place
from tests.unit.process.processes import PATIENCE_S, alive, descendants, wait_until

ROOT = Path(__file__).parents[2]
HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "faults", "version": "1"}}


# Its own bounds are those that an operating system leaves a process that is told to end.
_PATIENT = """
import runpy
from obi_mcp import transport
from obi_mcp.toolsets.kubernetes import carry_out
carry_out.ON_CANCEL_S, transport.CLOSE_TIMEOUT_S = 100.0, 110.0
runpy.run_module("obi_mcp", run_name="__main__")
"""


class Server:
    """A running server; ``answers`` are read by a thread, so that it never waits for the test."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._answers: Queue[dict[str, Any]] = Queue()
        self._kept: list[dict[str, Any]] = []
        self.reading = threading.Thread(target=self._read, daemon=True)
        self.reading.start()

    def send(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def ask(self, number: object, method: str, **params: Any) -> None:
        self.send(json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode() + b"\n")

    def tell(self, method: str, **params: Any) -> None:
        self.send(json.dumps({"jsonrpc": "2.0", "method": method, "params": params}).encode() + b"\n")

    def call(self, number: object, command: str, **more: Any) -> None:
        self.ask(number, "tools/call", name="obi_kubectl", arguments={"command": command, **more})

    def answer(self, number: object) -> dict[str, Any]:
        """The answer to that request, whatever else is answered before it."""
        while True:
            for place, message in enumerate(self._kept):
                if message.get("id") == number and "method" not in message:
                    return self._kept.pop(place)
            try:
                self._kept.append(self._answers.get(timeout=PATIENCE_S))
            except Empty:
                raise AssertionError(f"no answer to {number}; so far {self._kept}") from None

    def unanswered(self, number: object) -> bool:
        """Whether that request has had no answer when a later ping has."""
        self.ask("after", "ping")
        self.answer("after")
        return all(message.get("id") != number for message in self._kept)

    def said(self) -> list[dict[str, Any]]:
        """Everything that was answered and not asked for, after the server has ended."""
        self.reading.join(PATIENCE_S)
        while not self._answers.empty():
            self._kept.append(self._answers.get())
        return self._kept

    def initialize(self) -> None:
        self.ask(0, "initialize", **HELLO)
        assert self.answer(0)["result"]["serverInfo"]["name"] == "obi-mcp"
        self.tell("notifications/initialized")

    def _read(self) -> None:
        if self.process.stdout is None:  # the test reads it, or nobody
            return
        with suppress(ValueError, OSError):
            for line in self.process.stdout:
                self._answers.put(json.loads(line))


@contextmanager
def server(
    at: Place, *, stdin: int = subprocess.PIPE, stdout: int = subprocess.PIPE, patient: bool = False
) -> Iterator[Server]:
    """A server of that place; when it has gone, no process of it may be left. What it logs is in ``at.root/'log'``.

    ``patient``: it takes as long as it needs to leave, as for a plan that is taken back on a busy machine.
    """
    log = (at.root / "log").open("ab")
    environment = {**at.environment(), "PYTHONPATH": f"{ROOT}/server"}
    process = subprocess.Popen(
        [sys.executable, *(("-c", _PATIENT) if patient else ("-m", "obi_mcp")), "serve"],
        cwd=at.root,
        env=environment,
        stdin=stdin,
        stdout=stdout,
        stderr=log,
    )
    made = Server(process)
    seen: set[int] = set()
    try:
        yield made
        seen = descendants(process.pid)
    finally:
        with suppress(ProcessLookupError):
            seen |= descendants(process.pid)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE_S)
        log.close()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
    wait_until(lambda: not any(map(alive, seen)), "every process below the server is gone")
    wait_until(lambda: not os.listdir(at.runtime), "the private directory is gone")


def logged(at: Place) -> list[dict[str, Any]]:
    """The server's log lines; whatever is none is ``{"text": …}``."""
    lines = (at.root / "log").read_text().splitlines()
    return [json.loads(line) if line.startswith("{") else {"text": line} for line in lines]
