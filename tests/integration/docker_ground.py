"""Where the docker tools are tried: a real engine in a network of two namespaces, from which nothing leaves.

::

    NET: the engine, OBI's container, who asks        PEER: an HTTP server
         obi0 10.98.7.1 ──────────── veth ──────────── peer0 10.98.7.2
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from recipes.store import Store, cache_root
from tests.daemon import DockerDaemon
from tests.sandbox import build
from tests.sandbox.archive import OBI_IMAGE
from tests.sandbox.network import ip

NETWORK = "10.98.7.0/30"
INSIDE, PEER = "10.98.7.1", "10.98.7.2"
INTERFACE = "obi0"
PORT, METRICS = 8080, 9090
OTHER_IMAGE = "sandbox.test/companion:1"
_WITHIN_S = 120.0

CONFIG = f"""\
enforce_sys_caps: false  # Docker 20.10 gives BPF and PERFMON to nobody, and Beyla asks for them
network:
  enable: true
  source: socket_filter
  print_flows: true
  interfaces: [{INTERFACE}]
  exclude_interfaces: []
  cache_active_timeout: 1s
  agent_ip: {INSIDE}
attributes: {{select: {{beyla_network_flow_bytes: {{include: ["*"]}}}}}}
prometheus_export: {{port: {METRICS}}}
"""


@dataclass(frozen=True)
class Ground:
    """The engine, and the names of the namespaces."""

    daemon: DockerDaemon
    inside: str

    def request(self, times: int) -> None:
        """Ask the peer's HTTP server that often."""
        asked = f"u.urlopen('http://{PEER}:{PORT}/', timeout={_WITHIN_S}).read()"
        script = f"import urllib.request as u\nfor _ in range({times}): {asked}"
        subprocess.run([*self.enter(), sys.executable, "-c", script], check=True)

    def metrics(self) -> str:
        """What OBI serves to Prometheus."""
        script = f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:{METRICS}/metrics').read().decode())"
        done = subprocess.run([*self.enter(), sys.executable, "-c", script], check=True, capture_output=True, text=True)
        return done.stdout

    @contextmanager
    def taken_port(self) -> Iterator[None]:
        """Somebody else listens where OBI would serve its metrics."""
        with listening(self.inside, METRICS):
            yield

    def enter(self) -> list[str]:
        """The beginning of a command line that runs in the engine's network."""
        return ["nsenter", f"--net=/run/netns/{self.inside}", "--"]


@contextmanager
def ground(*, modern: bool = False) -> Iterator[Ground]:
    """Everything up; nothing of it is left afterwards. ``modern``: an engine of today instead of Debian's."""
    inside = f"obi-mcp-docker-{'today' if modern else 'tools'}-{os.getpid()}"
    outside = f"{inside}-peer"
    with ExitStack() as stack:
        for name in (inside, outside):
            ip("netns", "add", name)
            stack.callback(ip, "netns", "del", name)
            ip("link", "set", "lo", "up", netns=name)
        ip("link", "add", INTERFACE, "netns", inside, "type", "veth", "peer", "name", "peer0", "netns", outside)
        for name, link, address in ((inside, INTERFACE, INSIDE), (outside, "peer0", PEER)):
            ip("addr", "add", f"{address}/30", "dev", link, netns=name)
            ip("link", "set", link, "up", netns=name)
        stack.enter_context(listening(outside, PORT))
        daemon = stack.enter_context(DockerDaemon.up("today" if modern else "tools", netns=inside, modern=modern))
        daemon.load(Path(build.make(Store(cache_root().parent / "sandbox"))["images"]))
        yield Ground(daemon, inside)


@contextmanager
def listening(netns: str, port: int) -> Iterator[None]:
    """An HTTP server in that namespace, on all its addresses, once it answers."""
    words = [sys.executable, "-u", "-m", "http.server", str(port), "--directory", "/usr/share/misc"]
    command = ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net=/run/netns/{netns}", "--", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        try:
            assert server.stdout.readline().startswith("Serving HTTP")
            yield
        finally:
            server.kill()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Waits for a condition. Raises: AssertionError when it does not come."""
    deadline = time.monotonic() + _WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, f"{what}: it did not come"
        time.sleep(0.05)


__all__ = ["CONFIG", "Ground", "INSIDE", "OBI_IMAGE", "OTHER_IMAGE", "PEER", "ground", "wait_until"]
