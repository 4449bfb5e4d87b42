"""The sandbox cluster, started once for the session, and the real server as an MCP client meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from tests.sandbox.api import wait_until
from tests.sandbox.everything import everything
from tests.sandbox.sandbox import Sandbox

ROOT = Path(__file__).parents[2]
# What controllers make and remove for the objects of others, at a time of their own.
_DERIVED = frozenset({"pods", "replicasets", "controllerrevisions", "endpoints", "endpointslices"})
WHOLE_WITHIN_S = 300.0
# Of a call: the default, half a minute, is not much on a busy machine.
CALL_S = "120"
_AT_FIRST = pytest.StashKey[tuple[Sandbox, frozenset[str]]]()


@pytest.fixture
def anyio_backend() -> str:
    """What runs the tests that are coroutines."""
    return "asyncio"


@pytest.fixture(scope="session")
def sandbox(pytestconfig: pytest.Config) -> Iterator[Sandbox]:
    """A sandbox of this session's own, with cluster-admin in its kubeconfig."""
    with Sandbox.up(f"tests-{os.getpid()}") as running:
        pytestconfig.stash[_AT_FIRST] = (running, _settled_objects(running))
        yield running
        del pytestconfig.stash[_AT_FIRST]


@pytest.fixture(scope="module", autouse=True)
def sandbox_as_it_was(pytestconfig: pytest.Config) -> Iterator[None]:
    """Each file leaves the objects of the sandbox that it found, none on its way out, and all pods ready, for whatever
    file comes next."""
    yield
    if _AT_FIRST in pytestconfig.stash:
        running, at_first = pytestconfig.stash[_AT_FIRST]
        now = _objects(running)
        assert (sorted(now - at_first), sorted(at_first - now)) == ([], []), "left behind, or taken away"
        wait_until("everything runs again", running.whole, within_s=WHOLE_WITHIN_S)


def _settled_objects(running: Sandbox) -> frozenset[str]:
    """The same once the controllers have made what they make for themselves when they start."""
    objects = _objects(running)
    while (again := _objects(running)) != objects:
        objects = again
    return objects


def _objects(running: Sandbox) -> frozenset[str]:
    """The path of every object that somebody asked for, once nothing is being removed."""
    return frozenset(path for path in everything(running.api) if path.split("/")[-3] not in _DERIVED)


@pytest.fixture(scope="session")
def programs_bin() -> Path:
    """The directory of the pinned kubectl, helm, jq and the filters."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "image" / "programs.py"), "--print-bin"], check=True, capture_output=True, text=True
    )
    return Path(done.stdout.strip().splitlines()[-1])


@dataclass(frozen=True)
class Outcome:
    """What a tool call gave."""

    structured: dict[str, Any]
    text: str
    is_error: bool

    @property
    def stdout(self) -> str:
        return str(self.structured.get("stdout", ""))

    @property
    def code(self) -> str:
        return str(self.structured.get("code", ""))


@dataclass(frozen=True)
class Session:
    """A connected client, and where the server writes its audit log."""

    client: Client
    audit: Path

    async def call(self, tool: str, command: str, **more: Any) -> Outcome:
        """Call a command tool."""
        result = await self.client.call_tool(tool, {"command": command, **more})
        text = "\n".join(getattr(part, "text", "") for part in result.content)
        return Outcome(dict(result.structured_content or {}), text, bool(result.is_error))

    async def kubectl(self, command: str, **more: Any) -> Outcome:
        """Call ``obi_kubectl``."""
        return await self.call("obi_kubectl", f"kubectl {command}", **more)

    async def helm(self, command: str, **more: Any) -> Outcome:
        """Call ``obi_helm``."""
        return await self.call("obi_helm", f"helm {command}", **more)


Serve = Callable[..., AbstractAsyncContextManager[Session]]


@pytest.fixture
def serve(sandbox: Sandbox, programs_bin: Path, tmp_path: Path) -> Serve:
    """Start ``obi-mcp serve`` at an access level and connect the official client to it over stdio."""

    @asynccontextmanager
    async def start(
        access: str = "read-only", *, client_options: dict[str, Any] | None = None, **settings: str
    ) -> AsyncIterator[Session]:
        audit = tmp_path / f"audit-{access}.ndjson"
        environment = {
            "KUBECONFIG": str(sandbox.kubeconfig),
            "OBI_MCP_PROGRAMS__KUBECONFIG": str(sandbox.kubeconfig),
            "OBI_MCP_PROGRAMS__PATH": json.dumps([str(programs_bin)]),
            "OBI_MCP_AUDIT__FILE": str(audit),
            "OBI_MCP_LIMITS__TIMEOUT_S": CALL_S,
            **settings,
        }
        parameters = StdioServerParameters(
            command=sys.executable, args=["-m", "obi_mcp", "serve", "--access", access], env=environment
        )
        async with Client(parameters, **(client_options or {})) as client:
            yield Session(client, audit)

    return start
