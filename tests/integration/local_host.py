"""A host for the local agent: a network namespace with a link to a peer that serves HTTP, a server in it, a client."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from tests.sandbox.network import ip

ROOT = Path(__file__).parents[2]
OWN, PEER = "10.98.7.1", "10.98.7.2"
LINK, PORT, METRICS = "veth0", 8000, 9490
BODY = 20_000
READY_WITHIN_S = 120
"""What an agent may take to become ready: on a busy machine more than the tool's own bound."""
WITHIN_S = 120.0
"""How long a test waits for what must come."""
FLOWS = "beyla_network_flow_bytes_total"

CONFIG = f"""\
# the flows of one link
network:
  enable: true
  source: socket_filter
  print_flows: true
  interfaces: [{LINK}]
  exclude_interfaces: []
  cache_active_timeout: 1s
  agent_ip: {OWN}
attributes: {{select: {{beyla_network_flow_bytes: {{include: ["*"]}}}}}}
prometheus_export: {{port: {METRICS}}}
"""

_SERVER = f"""
import http.server
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"x" * {BODY})
    def log_message(self, *words): pass
server = http.server.ThreadingHTTPServer(("{PEER}", {PORT}), Answer)
print("ready", flush=True)
server.serve_forever()
"""
_CLIENT = f"""
import sys, urllib.request
for _ in range(int(sys.argv[1])):
    urllib.request.urlopen("http://{PEER}:{PORT}/", timeout=60).read()
"""


@cache
def real_agent() -> Path:
    """The real eBPF agent, from the sandbox's cache; it is built where it is not there."""
    build = [sys.executable, str(ROOT / "tests/sandbox/build.py"), "--json"]
    done = subprocess.run(build, stdout=subprocess.PIPE, text=True, check=True)
    return Path(json.loads(done.stdout)["programs"]["beyla"])


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Waits for a condition, ``WITHIN_S`` at most."""
    deadline = time.monotonic() + WITHIN_S
    while not await condition():
        assert time.monotonic() < deadline, f"not within {WITHIN_S} s: {what}"
        await asyncio.sleep(0.1)


@dataclass(frozen=True)
class Answered:
    """What a tool gave."""

    data: dict[str, Any]
    text: str
    is_error: bool

    @property
    def code(self) -> str:
        return str(self.data.get("code", ""))

    @property
    def message(self) -> str:
        return f"{self.data.get('message', '')} / {self.data.get('hint', '')}"


@dataclass(frozen=True)
class Served:
    """A server and its client; ``pid`` is the server's."""

    client: Client
    pid: int

    async def call(self, tool: str, **arguments: Any) -> Answered:
        """Calls one tool."""
        if tool == "obi_deploy_local":
            arguments.setdefault("timeout_s", READY_WITHIN_S)
        result = await self.client.call_tool(tool, arguments)
        text = "\n".join(getattr(part, "text", "") for part in result.content)
        return Answered(dict(result.structured_content or {}), text, bool(result.is_error))


@dataclass
class LocalHost:
    """The namespace, and where its servers keep their state."""

    netns: str
    directory: Path
    binary: Path
    settings: dict[str, Any] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    """Words before the server's own command line: who it runs as."""

    @property
    def agent(self) -> Path:
        """The directory of the agent."""
        return self.directory / "state" / "obi-mcp" / "agent"

    @property
    def audit(self) -> Path:
        return self.directory / "audit.ndjson"

    def record(self) -> dict[str, Any]:
        """What is written down of the agent."""
        found: dict[str, Any] = json.loads((self.agent / "agent.json").read_text())
        return found

    def traffic(self, requests: int) -> None:
        """Requests to the peer, over the link."""
        subprocess.run([*self._enter(), sys.executable, "-c", _CLIENT, str(requests)], check=True)

    @asynccontextmanager
    async def serve(self, access: str = "full") -> AsyncIterator[Served]:
        """A fresh server, and a client of it."""
        config = self.directory / "config.yaml"
        settings: dict[str, Any] = {
            "access": access,
            "toolsets": ["command", "local"],
            "audit": {"file": str(self.audit)},
            "local": {"binary": str(self.binary), "config_directories": [str(self.directory / "etc")]},
        }
        for name, value in self.settings.items():
            old = settings.get(name, {})
            settings[name] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        config.write_text(json.dumps(settings))
        config.chmod(0o644)
        pid_file = self.directory / "pid"
        pid_file.unlink(missing_ok=True)
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(self.directory),
            "XDG_STATE_HOME": str(self.directory / "state"),
            "XDG_CACHE_HOME": str(self.directory / "cache"),
            "PYTHONPATH": f"{ROOT}/server",
        }
        start = f"import os, runpy, sys; open({str(pid_file)!r}, 'w').write(str(os.getpid())); "
        start += f"sys.argv = ['obi-mcp', 'serve', '--config', {str(config)!r}]; "
        start += "runpy.run_module('obi_mcp', run_name='__main__')"
        words = [*self._enter(), *self.prefix, sys.executable, "-c", start]
        parameters = StdioServerParameters(command=words[0], args=words[1:], env=environment, cwd=self.directory)
        with (self.directory / "server.log").open("a") as log:
            async with Client(stdio_client(parameters, log)) as client:
                yield Served(client, int(pid_file.read_text()))

    def processes(self) -> list[str]:
        """Processes that run the agent's program, or keep it."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and str(self.agent) in (entry / "cmdline").read_bytes().decode():
                    found.append(entry.name)
            except OSError:
                pass
        return found

    def _enter(self) -> tuple[str, ...]:
        return (shutil.which("nsenter") or "nsenter", f"--net=/run/netns/{self.netns}")


@contextmanager
def local_host(name: str, directory: Path, binary: Path, **more: Any) -> Iterator[LocalHost]:
    """A namespace of that name with its peer; both, and every agent in them, are gone afterwards."""
    netns, peer = f"obi-{name}", f"obi-{name}-peer"
    link = f"ob{os.getpid() % 100_000}"
    for one in (netns, peer):
        ip("netns", "add", one)
    serving: subprocess.Popen[str] | None = None
    try:
        ip("link", "add", link, "type", "veth", "peer", "name", LINK, "netns", peer)
        ip("link", "set", link, "netns", netns, "name", LINK)
        for one, address in ((netns, OWN), (peer, PEER)):
            ip("address", "add", f"{address}/24", "dev", LINK, netns=one)
            ip("link", "set", LINK, "up", netns=one)
            ip("link", "set", "lo", "up", netns=one)
        words = ["nsenter", f"--net=/run/netns/{peer}", sys.executable, "-c", _SERVER]
        serving = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert serving.stdout is not None
        assert serving.stdout.readline() == "ready\n"
        made = LocalHost(netns, directory, binary, **more)
        try:
            yield made
        finally:
            for pid in made.processes():  # of a test that failed
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
    finally:
        if serving is not None:
            serving.kill()
            serving.wait()
            assert serving.stdout is not None
            serving.stdout.close()
        for one in (netns, peer):
            ip("netns", "del", one)
