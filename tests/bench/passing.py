"""``python -m tests.bench.passing``: a recorded list of 200 MB through the runner and jq, in a process of its own.

kubectl cannot give such a list (it keeps all of it, several times over), so it comes from a recording: one real pod, as
it stands in ``item.json`` of the given folder, again and again under other names. One in a hundred is OBI's.
Prints JSON: how much the process's peak memory grew by, how long it took, what jq printed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from tests.bench import memory

from obi_mcp.config import Programs, Settings
from obi_mcp.policy.model import Access, Approved, Decision, Output
from obi_mcp.process.runner import Runner
from obi_mcp.redact import Redactor

LIST_BYTES = 200_000_000
MEMBER_EVERY = 100
_CHUNK_BYTES = 65_536
_NAME, _UID = "NAME-OF-THE-POD", "UID-OF-THE-POD"


async def recorded(item: str, count: int) -> AsyncIterator[bytes]:
    """A List as kubectl prints it, in chunks as a pipe gives them."""
    waiting = bytearray(b'{\n    "apiVersion": "v1",\n    "items": [\n')
    for number in range(count):
        waiting += b",\n" if number else b""
        waiting += item.replace(_NAME, f"pod-{number}").replace(_UID, f"uid-{number}").encode()
        while len(waiting) >= _CHUNK_BYTES:
            yield bytes(waiting[:_CHUNK_BYTES])
            del waiting[:_CHUNK_BYTES]
    yield bytes(waiting) + b'\n    ],\n    "kind": "List"\n}\n'


async def measure(folder: Path) -> dict[str, float | str]:
    """Runs it once."""
    pod = json.loads((folder / "item.json").read_text(encoding="utf-8"))
    pod["metadata"] |= {"name": _NAME, "uid": _UID}
    item = json.dumps(pod, indent=4).replace("\n", "\n        ")
    count = LIST_BYTES // len(item)
    line = Approved(
        Decision("allow", "bench", "a measurement", Access.READ_ONLY),
        (("kubectl",),),
        (("jq", ".items | length"),),
        None,
        Output(head="json", confine=True),
        members=frozenset(f"uid-{number}" for number in range(0, count, MEMBER_EVERY)),
    )
    runner = Runner(Settings(programs=Programs(path=(sys.argv[2],))), Redactor.load())
    try:
        await runner.run(line, timeout_s=60, max_bytes=1_000, head_source=recorded(item, MEMBER_EVERY))
        memory.forget_peak(os.getpid())
        before = memory.resident_mb(os.getpid())
        began = time.perf_counter()
        completed = await runner.run(line, timeout_s=300, max_bytes=1_000, head_source=recorded(item, count))
        took = time.perf_counter() - began
        grown = memory.peak_mb(os.getpid()) - before
    finally:
        await runner.close()
    if completed.exit_code != 0:
        raise OSError(completed.stderr.decode("utf-8", "replace"))
    return {"grown_mb": grown, "seconds": took, "printed": completed.stdout.decode().strip(), "items": count}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(Path(sys.argv[1])))))
