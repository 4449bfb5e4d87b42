"""One run of a real OBI or Beyla with a configuration, in a network namespace, as far as it shows what became of it."""

from __future__ import annotations

import os
import queue
import re
import selectors
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LONGEST_S = 60.0
QUIET_S = 1.5
"""Once it has started, so long without a line means that nothing about the configuration follows. Of one that is known
to end, its end is waited for: the machine may be busy."""

_IP = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or "ip"
_STARTED = re.compile(rb"starting (?:Beyla in )?\S+ (?:Observability|metrics) mode|starting Beyla in")
_ERROR = re.compile(rb'level=ERROR msg=("(?:[^"\\]|\\.)*"|\S+)(?: .*?error=("(?:[^"\\]|\\.)*"|\S+))?')
# What depends on the machine's kernel, not on the configuration.
_KERNEL = re.compile(rb"eBPF watcher|kprobe|tracefs|instrumenting function")


@dataclass(frozen=True, slots=True)
class Ran:
    """``outcome``: exits (an exit code other than 0), ends (0), starts. ``says``: the last error in its log."""

    outcome: str
    exit_code: int | None
    says: str


@contextmanager
def namespaces(count: int) -> Iterator[queue.Queue[str]]:
    """So many network namespaces with an address and a default route that leads nowhere, to be taken and put back."""
    names = [f"obi-config-{os.getpid()}-{index}" for index in range(count)]
    free: queue.Queue[str] = queue.Queue()
    try:
        for name in names:
            subprocess.run([_IP, "netns", "add", name], check=True)
            lines = (
                "link set lo up\nlink add here type veth peer name there\naddr add 10.9.9.1/24 dev here\n"
                "link set here up\nlink set there up\nroute add default via 10.9.9.2\n"
            )
            subprocess.run([_IP, "-n", name, "-batch", "-"], input=lines, text=True, check=True)
            free.put(name)
        yield free
    finally:
        for name in names:
            subprocess.run([_IP, "netns", "del", name], check=False)


def run(
    binary: str, content: bytes, environment: dict[str, str] | None, free: queue.Queue[str], *, ends: bool = False
) -> Ran:
    """Start it, read its log until it ends or is quiet, and kill it by its process id. ``ends``: it is known to end."""
    namespace = free.get()
    try:
        with tempfile.TemporaryDirectory(prefix="obi-config-") as directory:
            path = Path(directory) / "config.yml"
            path.write_bytes(content)
            fixed = {"PATH": "/usr/bin:/bin", "OTEL_EBPF_HOST_ID": "test", "GOMAXPROCS": "1"}
            with subprocess.Popen(
                [_IP, "netns", "exec", namespace, binary, "-config", str(path)],
                env=fixed | (environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=directory,
            ) as process:
                try:
                    log = _read(process, LONGEST_S if ends else QUIET_S)
                finally:
                    still = process.poll() is None
                    process.kill()
            return _judge(log, None if still else process.returncode)
    finally:
        free.put(namespace)


def _read(process: subprocess.Popen[bytes], quiet_s: float) -> bytes:
    """The log until the end, until it is quiet after the start, or until it is too long ago that it began."""
    assert process.stdout is not None
    log = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(quiet_s if _STARTED.search(log) else LONGEST_S):
            more = os.read(process.stdout.fileno(), 65_536)
            if not more:
                process.wait(LONGEST_S)
                break
            log += more
    return log


def _judge(log: bytes, exit_code: int | None) -> Ran:
    errors = [found for found in _ERROR.finditer(log) if not _KERNEL.search(found[0])]
    said = ""
    if errors:
        message, error = (part.decode(errors="replace").strip('"') if part else "" for part in errors[-1].groups())
        said = f"{message}: {error}" if error else message
    elif exit_code:
        said = log.decode(errors="replace").strip().splitlines()[-1][:300]
    said = said.replace('\\"', '"').replace("\\n", " ")
    said = re.sub(r" +", " ", re.sub(r"0x[0-9a-f]+", "0x…", said))[:400]
    outcome = "starts" if exit_code is None else "exits" if exit_code else "ends"
    return Ran(outcome, exit_code, said)
