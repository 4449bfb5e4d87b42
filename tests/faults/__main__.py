"""Every write of every planning tool with every failure of the API server: ``make faults``. Takes its time."""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from pathlib import Path

from tests.faults.place import place, write_kubeconfig
from tests.faults.plans import SCENARIOS, Case, Ground, clean_run, every_case, play, tools_of
from tests.faults.writes import failing_server
from tests.sandbox.instance import SandboxError
from tests.sandbox.sandbox import Sandbox

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Exit code 0 when every case ended with everything done or everything taken back, and said so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=3, help="each with a sandbox of its own (3)")
    parser.add_argument("--scenario", action="append", help="only this one; several may be given")
    parser.add_argument("--part", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        part, parts = map(int, args.part.split("/"))
        return _part(part, parts, args.scenario)
    words = [word for name in args.scenario or () for word in ("--scenario", name)]
    command = [sys.executable, "-m", "tests.faults", *words]
    started = time.monotonic()
    running = [
        subprocess.Popen([*command, "--part", f"{part}/{args.processes}"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for part in range(args.processes)
    ]
    ended: Counter[str] = Counter()
    readers = [threading.Thread(target=_read, args=(process, ended)) for process in running]
    for reader in readers:
        reader.start()
    for reader, process in zip(readers, running, strict=True):
        reader.join()
        process.wait()
    told = ", ".join(f"{count} {how}" for how, count in sorted(ended.items()))
    print(f"{sum(ended.values())} cases in {time.monotonic() - started:.0f} s: {told}")
    return 1 if ended["FAILED"] or any(process.returncode for process in running) else 0


_ENDS = ("done", "taken back", "left, then taken back", "FAILED")


def _read(process: subprocess.Popen[str], ended: Counter[str]) -> None:
    """Shows what a part says as it says it, and counts how its cases ended."""
    for line in process.stdout or ():
        print(line, end="", flush=True)
        how = line.partition(":")[0]
        if how in _ENDS:
            ended[how] += 1


def _part(part: int, parts: int, names: list[str] | None) -> int:
    bin_folder = subprocess.run(
        [sys.executable, str(ROOT / "image" / "programs.py"), "--print-bin"], check=True, capture_output=True, text=True
    )
    programs = Path(bin_folder.stdout.strip().splitlines()[-1])
    with (
        Sandbox.up(f"faults-{os.getpid()}", real_node=False, kwok_nodes=2) as sandbox,
        place() as at,
        failing_server(sandbox) as double,
    ):
        write_kubeconfig(at.kubeconfig, double.address)

        async def cases() -> None:
            async with tools_of(at, programs, double, sandbox.api) as ground:
                for scenario in SCENARIOS:
                    if names and scenario.name not in names:
                        continue
                    writes, planned = await clean_run(ground, scenario)
                    for case in every_case(scenario, writes)[part::parts]:
                        print(await _ended(ground, case, planned), flush=True)

        asyncio.run(cases())
    return 0


async def _ended(ground: Ground, case: Case, planned: dict[str, object]) -> str:
    try:
        return f"{(await play(ground, case, planned)).ended}: {case.id}"
    except (AssertionError, SandboxError) as error:
        return f"FAILED: {case.id}\n{''.join(traceback.format_exception(error))}"


if __name__ == "__main__":
    sys.exit(main())
