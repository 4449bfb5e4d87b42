"""The server under demonstration: a process of its own, reached through the official client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters
from mcp.client import stdio
from mcp.client.stdio import stdio_client
from tests.demo.place import Place

ROOT = Path(__file__).resolve().parent.parent.parent
SERVE = (sys.executable, "-m", "obi_mcp", "serve")
CALL_S = 120
"""Of a call: the default, half a minute, is not much on a busy machine."""
ENDS_WITHIN_S = 60.0
VERIFY = (sys.executable, "-m", "obi_mcp", "audit", "verify")


@dataclass(frozen=True, slots=True)
class ServerFiles:
    """What a server of the demo reads and writes, in a directory of its own; ``serve`` is its command line."""

    directory: Path
    serve: tuple[str, ...] = SERVE

    @property
    def config(self) -> Path:
        return self.directory / "config.yaml"

    @property
    def audit(self) -> Path:
        return self.directory / "audit.ndjson"

    @property
    def log(self) -> Path:
        return self.directory / "server.log"

    def log_end(self) -> str:
        """The last lines of the server's log."""
        return "\n".join(self.log.read_text(encoding="utf-8").splitlines()[-8:])


def program_directory() -> str:
    """Where kubectl, helm, jq and the filters are; builds them if they are not in the cache. Raises: OSError."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "image" / "programs.py"), "--print-bin"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise OSError(f"image/programs.py ended with {done.returncode}")
    return done.stdout.strip()


def write_config(files: ServerFiles, place: Place, programs: str | None) -> None:
    """The configuration of the demo's server, which finds its own programs when None are named; JSON is YAML too."""
    settings: dict[str, Any] = {
        "access": "non-destructive" if place.changes else "read-only",
        "programs": {"path": [programs] if programs is not None else []},
        "audit": {"file": str(files.audit)},
        "limits": {"timeout_s": CALL_S},
    }
    if place.kubeconfig is not None:
        settings["programs"]["kubeconfig"] = place.kubeconfig
    if place.context is not None:
        settings["scope"] = {"contexts": [place.context]}
    files.config.write_text(json.dumps(settings, indent=2), encoding="utf-8")
    files.config.chmod(0o600)


@asynccontextmanager
async def connect(files: ServerFiles) -> AsyncIterator[Client]:
    """A client of a fresh server, which ends with the block. Its log goes to ``files.log``."""
    # The client's own patience is two seconds; it would kill a slow server before the head of its log is printed.
    stdio.PROCESS_TERMINATION_TIMEOUT = max(stdio.PROCESS_TERMINATION_TIMEOUT, ENDS_WITHIN_S)
    environment = {**os.environ, "OBI_MCP_CONFIG": str(files.config)}
    parameters = StdioServerParameters(
        command=files.serve[0], args=list(files.serve[1:]), env=environment, cwd=str(ROOT)
    )
    with files.log.open("w", encoding="utf-8") as log:
        async with Client(stdio_client(parameters, errlog=log)) as client:
            yield client


def last_head(files: ServerFiles) -> str:
    """The head of the audit log as the server printed it when it stopped. Raises: ValueError when it did not."""
    for line in reversed(files.log.read_text(encoding="utf-8").splitlines()):
        try:
            head = json.loads(line).get("audit_head")
        except ValueError:
            continue
        if head:
            return str(head)
    raise ValueError("the server's log names no audit head: it did not stop as it should")


def verify_audit(path: Path, head: str) -> subprocess.CompletedProcess[str]:
    """What ``obi-mcp audit verify`` says of a log."""
    argv = [*VERIFY, str(path), "--head", head]
    return subprocess.run(argv, capture_output=True, text=True, check=False)
