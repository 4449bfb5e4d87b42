"""What a server costs: its start, its memory, the list of its tools, commands and reads through it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench import memory
from tests.bench.table import Bar, Row, median, percentile
from tests.bench.wire import Wire, serving

STARTS = 7
COMMANDS = 25
READS = 200
CONCURRENT = 100
IDLE_S = 1.0
OBI = "app.kubernetes.io/part-of=obi"
COMMAND = f"kubectl get pods -n observability -l {OBI} -o json"
ARGV = ("get", "pods", "-n", "observability", "-l", OBI, "-o", "json")


@dataclass(frozen=True, slots=True)
class Ground:
    """Where measuring is done: the server's configuration, and kubectl with its cluster for comparison."""

    config: Path
    programs: str
    kubeconfig: Path

    @property
    def kubectl(self) -> str:
        return f"{self.programs}/kubectl"


async def start_up(ground: Ground) -> tuple[Row, ...]:
    """Start to the answer to ``initialize``, against the import of the library alone, interleaved."""
    starts, imports = [], []
    for _ in range(STARTS):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import mcp.server"], check=True)
        imports.append(time.perf_counter() - began)
        async with serving(ground.config) as wire:
            starts.append(wire.started_s)
    floor = median(imports)
    return (
        Row("import mcp.server", floor, "s", note=f"median of {STARTS}, interleaved with the next"),
        Row("start to initialize", median(starts), "s", note=f"median of {STARTS}"),
        Row("start to initialize : import", median(starts) / floor, "×", Bar(1.25)),
    )


async def size(wire: Wire) -> tuple[Row, ...]:
    """Memory of a server that has listed its tools and waits, and the list itself."""
    listed = await wire.request("tools/list")
    await asyncio.sleep(IDLE_S)
    return (
        Row("tools/list", len(listed) / 1000, "kB", Bar(20), "one line of JSON, default toolsets"),
        Row("idle server", memory.resident_mb(wire.pid), "MB", Bar(80), "resident, before the first command"),
    )


async def used_memory(wire: Wire) -> tuple[Row, ...]:
    """Memory after everything else, children extra."""
    below = memory.children(wire.pid)
    named = ", ".join(f"{name} {held:.0f}" for name, held in sorted(below.items())) or "none"
    return (
        Row("server after all of this", memory.resident_mb(wire.pid), "MB", note="resident"),
        Row("its children", sum(below.values()), "MB", note=named),
    )


async def raw_command(wire: Wire, ground: Ground) -> tuple[Row, ...]:
    """The same command by the server and by a bare kubectl, in turns."""
    bare, through = [], []
    await wire.call("obi_kubectl", COMMAND)
    for _ in range(COMMANDS):
        bare.append(await _bare(ground))
        began = time.perf_counter()
        await wire.call("obi_kubectl", COMMAND)
        through.append((time.perf_counter() - began) * 1000)
    own, ours = median(bare), median(through)
    return (
        Row("bare kubectl", own, "ms", note=f"{COMMAND}; median of {COMMANDS}, its own HOME and discovery cache"),
        Row("obi_kubectl, the same", ours, "ms", note=f"over MCP, checks included; median of {COMMANDS}, in turns"),
        Row("obi_kubectl : bare kubectl", ours / own, "×", Bar(1.0)),
        Row("obi_kubectl - bare kubectl", ours - own, "ms", Bar(5)),
    )


async def _bare(ground: Ground) -> float:
    environment = {"HOME": os.environ.get("HOME", "/"), "PATH": "/usr/bin:/bin", "KUBECONFIG": str(ground.kubeconfig)}
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        ground.kubectl, *ARGV, env=environment, stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL
    )
    out, _ = await process.communicate()
    if process.returncode != 0 or not out:
        raise OSError(f"kubectl ended with {process.returncode}")
    return (time.perf_counter() - began) * 1000


async def together(wire: Wire) -> tuple[Row, ...]:
    """Many calls at once, and how long a list of tools takes meanwhile."""
    alone = []
    for _ in range(5):
        began = time.perf_counter()
        await wire.call("obi_kubectl", COMMAND)
        alone.append(time.perf_counter() - began)
    memory.forget_peak(wire.pid)
    before = memory.resident_mb(wire.pid)
    running = asyncio.gather(*(_timed(wire) for _ in range(CONCURRENT)), return_exceptions=True)
    lists = []
    while not running.done():
        began = time.perf_counter()
        await wire.request("tools/list")
        lists.append((time.perf_counter() - began) * 1000)
        await asyncio.wait([running], timeout=0.05)
    ended = await running
    spent = [one for one in ended if isinstance(one, float)]
    bound = CONCURRENT * median(alone) / (os.cpu_count() or 1)
    return (
        Row(f"{CONCURRENT} calls at once, failed", CONCURRENT - len(spent), "failures", Bar(0)),
        Row(
            f"{CONCURRENT} calls at once, p95",
            percentile(spent, 0.95),
            "s",
            Bar(round(bound, 3)),
            "bar: 100 × one / cores",
        ),
        Row(
            "tools/list meanwhile, longest",
            max(lists),
            "ms",
            Bar(20),
            f"median of {len(lists)}: {median(lists):.1f} ms",
        ),
        Row("server's peak grew by", memory.peak_mb(wire.pid) - before, "MB"),
    )


async def _timed(wire: Wire) -> float:
    began = time.perf_counter()
    await wire.call("obi_kubectl", COMMAND)
    return time.perf_counter() - began
