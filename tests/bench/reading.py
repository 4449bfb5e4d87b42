"""What passes through: the server's own warm reads, and a log of hundreds of megabytes."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from tests.bench import memory
from tests.bench.serving import OBI, READS, Ground
from tests.bench.table import Bar, Row, median
from tests.bench.wire import Wire
from tests.sandbox.sandbox import Sandbox

from obi_mcp.config import load_settings
from obi_mcp.enforcer.cluster import Cluster
from obi_mcp.policy.engine import Policy
from obi_mcp.process.channel import Channels
from obi_mcp.process.runner import Runner
from obi_mcp.redact import Redactor

IN_FLIGHT = 16
LOG_MB = 200
LINE_BYTES = 1_000
TIMEOUT_S = 120
_LOGS = "/apis/kwok.x-k8s.io/v1alpha1/namespaces/observability/logs"


async def warm_read(ground: Ground, bare_ms: float) -> tuple[Row, ...]:
    """A list of OBI's pods by the warm channel, one after another and many in flight."""
    settings = load_settings(config_path=str(ground.config), environ={})
    pods = Policy.load(settings).resources.find("pods")
    assert pods is not None
    runner = Runner.for_settings(settings, Redactor.load())
    channels = Channels(settings, runner)
    try:
        cluster = Cluster(channels.of(None))

        async def read() -> float:
            began = time.perf_counter()
            found = await cluster.list(pods.resource, "observability", OBI)
            assert found
            return (time.perf_counter() - began) * 1000

        await read()
        spent = [await read() for _ in range(READS)]
        rate = await _rate(read)
    finally:
        await channels.close()
    return (
        Row("warm read", median(spent), "ms", Bar(5), f"the same pods by the warm channel; median of {READS}"),
        Row("bare kubectl : warm read", bare_ms / median(spent), "×"),
        Row(f"warm reads, {IN_FLIGHT} in flight", rate, "/s", Bar(200, least=True)),
    )


async def _rate(read: object) -> float:
    assert callable(read)
    left = iter(range(READS * 2))

    async def reader() -> None:
        for _ in left:
            await read()

    began = time.perf_counter()
    await asyncio.gather(*(reader() for _ in range(IN_FLIGHT)))
    return READS * 2 / (time.perf_counter() - began)


async def big_log(wire: Wire, sandbox: Sandbox) -> tuple[Row, ...]:
    """A log of LOG_MB through jq: what the server's memory grows by, and how fast it goes."""
    pod = next(
        name for node, name in sandbox.facts["obi"]["pods_by_node"].items() if node != sandbox.facts["nodes"]["real"]
    )
    path = sandbox.instance.state / "logs" / "bench.log"
    await asyncio.to_thread(_write_log, path)
    source = {"kind": "Logs", "apiVersion": "kwok.x-k8s.io/v1alpha1", "metadata": {"name": pod}}
    spec = {"logs": [{"containers": ["ebpf-instrument"], "logsFile": str(path)}]}
    try:
        sandbox.api.post(_LOGS, source | {"spec": spec}).require("a log source")
        memory.forget_peak(wire.pid)
        before = memory.resident_mb(wire.pid)
        began = time.perf_counter()
        command = f"kubectl logs {pod} -n observability | jq -R -c 'select(startswith(\"level=ERROR\"))' | wc -l"
        content = await wire.call("obi_kubectl", command, timeout_s=TIMEOUT_S)
        took = time.perf_counter() - began
        grown = memory.peak_mb(wire.pid) - before
    finally:
        path.unlink(missing_ok=True)
        sandbox.api.request("DELETE", f"{_LOGS}/{pod}")
    note = f"{content['stdout'].strip()} of {LOG_MB * 1_000_000 // LINE_BYTES:,} lines"
    return (
        Row(f"{LOG_MB} MB of logs through jq, memory", grown, "MB", Bar(16), f"growth of the server's peak; {note}"),
        Row(f"{LOG_MB} MB of logs through jq, time", took, "s"),
    )


async def big_list(sandbox: Sandbox, programs: str) -> tuple[Row, ...]:
    """A recorded list of LOG_MB through jq: what the memory of the process that treats it grows by."""
    name = next(iter(sandbox.facts["obi"]["pods_by_node"].values()))
    pod = sandbox.api.get(f"/api/v1/namespaces/observability/pods/{name}").require("a pod to record")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "item.json").write_text(json.dumps({"apiVersion": "v1", "kind": "Pod", **pod}))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.bench.passing", folder, programs, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
    if process.returncode != 0:
        raise OSError(f"passing a recorded list ended with {process.returncode}")
    found = json.loads(out)
    note = f"recorded, {found['items']:,} pods, {found['printed']} of them OBI's; growth of the peak"
    return (
        Row(f"{LOG_MB} MB of a list through jq, memory", found["grown_mb"], "MB", Bar(16), note),
        Row(f"{LOG_MB} MB of a list through jq, time", found["seconds"], "s"),
    )


def _write_log(path: Path) -> None:
    """A log as a container runtime writes it, every thousandth line an error."""
    filler = "x" * (LINE_BYTES - 80)
    with path.open("w", encoding="ascii") as log:
        for number in range(LOG_MB * 1_000_000 // LINE_BYTES):
            level = "ERROR" if number % 1000 == 0 else "INFO"
            log.write(f"2026-11-21T07:25:16.000000000Z stdout F level={level} number={number:08} {filler}\n")
