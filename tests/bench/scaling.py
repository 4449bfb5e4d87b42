"""A thousand nodes: what looking at all of OBI's pods takes, and what the server holds meanwhile.

The pods are simulated. Their logs are a hundred recorded lines each, which kwok serves as their kubelet; their metrics
are a recording of four hundred lines, which a double replays at their addresses, behind the API server's pod proxy.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

from tests.bench import memory
from tests.bench.serving import OBI, Ground
from tests.bench.table import Bar, Row, median
from tests.bench.wire import Wire, serving
from tests.sandbox.instance import SandboxError
from tests.sandbox.sandbox import Sandbox
from tests.sandbox.simulated import start_replay

NODES = 1_000
ROUNDS = 5
LINES = 100
MEMORY_MB = 250.0
_CASES = Path(__file__).resolve().parent.parent / "cases"
_RECORDED = _CASES / "obi-metrics" / "metrics-app-go.prom"
_BARS = {
    "obi_k8s_verify_deployment": 2.0,
    "obi_k8s_status": None,
    "obi_k8s_logs": 10.0,
    "obi_k8s_aggregate_metrics": 10.0,
}


def prepare(sandbox: Sandbox) -> None:
    """Gives the simulated pods their logs and metrics. Raises: SandboxError without network namespaces."""
    if sandbox.instance.index is None:
        raise SandboxError("pods have no addresses of their own here: that needs root")
    _write_log(sandbox.instance.state / "logs" / "obi.log")
    start_replay(sandbox.instance, _RECORDED)


async def measure(ground: Ground, nodes: int) -> tuple[Row, ...]:
    """Each tool ROUNDS times in turn, after once to warm up."""
    spent: dict[str, list[float]] = {tool: [] for tool in _BARS}
    peaks = dict.fromkeys(_BARS, 0.0)
    said = dict.fromkeys(_BARS, "")
    bare = []
    async with serving(ground.config) as wire:
        for number in range(ROUNDS + 1):
            for tool in _BARS:
                seconds, peak, text = await _one(wire, tool)
                if number:
                    spent[tool].append(seconds)
                    peaks[tool], said[tool] = max(peaks[tool], peak), text
            if number:
                bare.append(await _bare(ground))
        held = memory.resident_mb(wire.pid)
        below = memory.children(wire.pid)
    own = median(bare)
    rows = [Row(f"bare kubectl, pods of {nodes:,} nodes", own, "s", note=f"get pods -A -o json; median of {ROUNDS}")]
    for tool, limit in _BARS.items():
        took = median(spent[tool])
        rows.append(Row(f"{tool}, {nodes:,} nodes", took, "s", Bar(limit) if limit else None, said[tool][:80]))
        rows.append(Row(f"{tool} : bare kubectl", took / own, "×"))
        rows.append(Row(f"{tool}, peak memory", peaks[tool], "MB", Bar(MEMORY_MB)))
    named = ", ".join(f"{name} {size:.0f}" for name, size in sorted(below.items()))
    return (*rows, Row("server after all of this", held, "MB", Bar(MEMORY_MB), f"children extra: {named}"))


async def _one(wire: Wire, tool: str) -> tuple[float, float, str]:
    """Seconds, the server's peak in MB, and the first line of the answer. Raises: OSError when the tool failed."""
    memory.forget_peak(wire.pid)
    began = time.perf_counter()
    line = await wire.request("tools/call", {"name": tool, "arguments": {}})
    took = time.perf_counter() - began
    result: dict[str, Any] = json.loads(line)["result"]
    text = str(result["content"][0]["text"])
    if result.get("isError"):
        raise OSError(f"{tool}: {text[:200]}")
    return took, memory.peak_mb(wire.pid), text.partition("\n")[0]


async def _bare(ground: Ground) -> float:
    environment = {"HOME": os.environ.get("HOME", "/"), "PATH": "/usr/bin:/bin", "KUBECONFIG": str(ground.kubeconfig)}
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(ground.kubectl, "get", "pods", "-A", "-l", OBI, "-o", "json"),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stdin=asyncio.subprocess.DEVNULL,
    )
    out, _ = await process.communicate()
    if process.returncode != 0 or not out:
        raise OSError(f"kubectl ended with {process.returncode}")
    return time.perf_counter() - began


def _write_log(path: Path) -> None:
    """Recorded lines as a container runtime writes them."""
    texts = (log.read_text(encoding="utf-8", errors="replace") for log in sorted((_CASES / "obi-logs").glob("*.log")))
    lines = [line for text in texts for line in text.splitlines() if line.strip()][:LINES]
    stamped = (f"2026-11-21T07:26:{n % 60:02}.000000000Z stdout F {line}\n" for n, line in enumerate(lines))
    path.write_text("".join(stamped), encoding="utf-8")
