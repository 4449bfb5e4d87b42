"""``python -m tests.bench``: what was promised of speed and size, measured in one run. It asserts nothing.

Exit code 0 when everything was measured, 1 when something could not be, 130 when interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tests.bench import deciding, reading, receiving, scaling, serving
from tests.bench.serving import Ground
from tests.bench.table import Row, print_table
from tests.bench.wire import serving as serve
from tests.demo.place import sandbox_cluster
from tests.demo.server import ServerFiles, program_directory, write_config
from tests.sandbox.instance import SandboxError
from tests.sandbox.sandbox import Sandbox

MOST_S = 600.0


def main() -> int:
    """Measures and prints; everything that was started is stopped before it returns."""
    arguments = _arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        rows, failures = _measure(
            with_cluster=not arguments.no_cluster, nodes=arguments.nodes, only=arguments.only_nodes
        )
    except SandboxError as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; everything was stopped", file=sys.stderr)
        return 130
    print(f"\n{_machine()}\n")
    print_table(rows)
    for failure in failures:
        print(f"NOT MEASURED: {failure}")
    return 1 if failures else 0


def _measure(*, with_cluster: bool, nodes: int, only: bool) -> tuple[list[Row], list[str]]:
    rows, failures = list[Row](), list[str]()
    if not only:
        _tell("decisions")
        rows.extend(deciding.measure())
        _tell("the receiver, for a minute")
        rows.extend(asyncio.run(receiving.measure()))
    if with_cluster and not only:
        with tempfile.TemporaryDirectory(prefix="obi-mcp-bench-") as directory, sandbox_cluster(_tell) as place:
            assert place.sandbox is not None
            files = ServerFiles(Path(directory))
            programs = program_directory()
            write_config(files, place, programs)
            ground = Ground(files.config, programs, place.sandbox.kubeconfig)
            asyncio.run(asyncio.wait_for(_with_cluster(ground, place.sandbox, rows, failures), MOST_S))
    if with_cluster and nodes:
        rows.extend(_over_many_nodes(nodes))
    return rows, failures


def _over_many_nodes(nodes: int) -> tuple[Row, ...]:
    """A cluster of its own: of simulated nodes alone."""
    _tell(f"a cluster of {nodes:,} nodes")
    with (
        tempfile.TemporaryDirectory(prefix="obi-mcp-bench-") as directory,
        sandbox_cluster(_tell, real_node=False, kwok_nodes=nodes) as place,
    ):
        assert place.sandbox is not None
        scaling.prepare(place.sandbox)
        files = ServerFiles(Path(directory))
        programs = program_directory()
        write_config(files, place, programs)
        ground = Ground(files.config, programs, place.sandbox.kubeconfig)
        _tell(f"the tools over {nodes:,} nodes")
        return asyncio.run(asyncio.wait_for(scaling.measure(ground, nodes), MOST_S))


async def _with_cluster(ground: Ground, sandbox: Sandbox, rows: list[Row], failures: list[str]) -> None:
    """What needs a server or a cluster, each on its own: one that fails is named, and the others go on."""

    async def take(what: str, measuring: Callable[[], Coroutine[Any, Any, tuple[Row, ...]]]) -> tuple[Row, ...]:
        _tell(what)
        try:
            found = await measuring()
        except (OSError, AssertionError, TimeoutError) as problem:
            failures.append(f"{what}: {problem or type(problem).__name__}")
            return ()
        rows.extend(found)
        return found

    await take("start-up", lambda: serving.start_up(ground))
    async with serve(ground.config) as wire:
        await take("size", lambda: serving.size(wire))
        raw = await take("raw command", lambda: serving.raw_command(wire, ground))
        await take("warm read", lambda: reading.warm_read(ground, raw[0].value if raw else float("nan")))
        await take("calls at once", lambda: serving.together(wire))
        await take("a big log", lambda: reading.big_log(wire, sandbox))
        await take("a big list", lambda: reading.big_list(sandbox, ground.programs))
        await take("memory", lambda: serving.used_memory(wire))


def _tell(what: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {what}", file=sys.stderr, flush=True)


def _machine() -> str:
    load = " ".join(f"{one:.1f}" for one in os.getloadavg())
    return f"{platform.machine()}, {os.cpu_count()} cores, load {load}, Python {platform.python_version()}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--no-cluster", action="store_true", help="only what needs no cluster")
    parser.add_argument(
        "--nodes", type=int, default=scaling.NODES, help="simulated nodes of the last part (1000; 0: none)"
    )
    parser.add_argument("--only-nodes", action="store_true", help="the last part alone")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
