"""Faults of the host: full disks, a clock that goes back, and files that go away. docs/faults.md."""

from __future__ import annotations

import ast
import asyncio
import os
import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.faults.place import API_VERSIONS, PERL, Call, Place, on_the_road, place
from tests.unit.process.test_faults_programs import LATE, fits

import obi_mcp
from obi_mcp.audit_chain import verify

pytestmark = pytest.mark.skipif(not os.path.exists(PERL), reason="the kubectl double needs Perl, and it is not here")
PACKAGE = Path(obi_mcp.__file__).parent


@pytest.fixture
def at() -> Iterator[Place]:
    with place() as made:
        yield made


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 64 KiB at the folder; skips where none may be mounted."""
    folder.mkdir(exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=64,mode=0700", "none", folder],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip(f"a full disk needs a mount, which is not allowed here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def fill(folder: Path) -> Path:
    """Takes all that is left of the file system."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 512)
    return filler


def test_a_full_disk_under_the_audit_log_stops_everything_until_a_restart(at: Place) -> None:
    unwritable = {
        "code": "^audit_error$",
        "message": r"^the audit log cannot be written: \[Errno 28\] No space left on device$",
        "hint": "^make room for it and restart the server$",
    }

    async def use(call: Call) -> None:
        at.behave("print qq(v1\\n)")
        assert (await call(API_VERSIONS)).structured["exit_code"] == 0
        filler = fill(disk)
        # What is left of the log's last page takes a few lines more.
        codes = [(await call(API_VERSIONS)).structured.get("code") for _ in range(20)]
        assert codes == sorted(codes, key=bool) and codes[-1] == "audit_error", "what is not written is not told"
        filler.unlink()
        at.behave("open(my $f, '>', qq($folder/ran)); print qq(v1\\n)")
        fits((await call(API_VERSIONS)).structured, unwritable)

    with small_disk(at.root / "disk") as disk:
        settings = at.settings()
        at_disk = disk / "audit"
        settings = type(settings)(programs=settings.programs, audit=type(settings.audit)(file=str(at_disk)))
        on_the_road(at, use, settings)
        found = verify(at_disk)
        whole = at_disk.read_bytes().endswith(b"\n")
        assert found.good is whole and found.lines > 1, "a line is whole, or is seen to be torn"

    assert not (at.kubeconfig.parent / "ran").exists()


def test_a_full_disk_under_the_private_directory_is_told_and_passes(at: Place) -> None:
    async def use(call: Call) -> None:
        at.behave("print qq(v1\\n)")
        assert (await call(API_VERSIONS)).structured["exit_code"] == 0
        filler = fill(at.runtime)
        assert (await call(API_VERSIONS)).structured["exit_code"] == 0, "without room for bytes it goes on"
        files = use_up_names(at.runtime)
        full = await call(API_VERSIONS)
        fits(full.structured, NO_FOLDER | {"message": f"^{NO_FOLDER['message']}: No space left on device$"})
        for file in (filler, *files):
            file.unlink()
        assert (await call(API_VERSIONS)).structured["exit_code"] == 0

    with small_disk(at.runtime):
        on_the_road(at, use)


NO_FOLDER = {
    "code": "^program_failed$",
    "message": r"temporary files cannot be made in /tmp/faults-[^/]+/run/obi-mcp-[^/]+/tmp",
    "hint": "^make room there; where the directory is gone, restart the server$",
}


def use_up_names(folder: Path) -> list[Path]:
    """Makes empty files until the file system has no inode left."""
    made: list[Path] = []
    with suppress(OSError):
        while True:
            made.append(folder / f"name{len(made)}")
            made[-1].touch(exist_ok=False)
    return made[:-1]


def test_too_few_descriptors_are_told_and_pass(at: Place) -> None:
    async def use(call: Call) -> None:
        at.behave("print qq(v1\\n)")
        assert (await call(API_VERSIONS)).structured["exit_code"] == 0
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            short = await call(API_VERSIONS)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        fits(
            short.structured,
            {
                "code": "^program_failed$",
                "message": "^the host does not let the server start kubectl: Too many open files$",
                "hint": "^obi-mcp doctor names the host's limits; try again with fewer calls at once$",
            },
        )
        assert (await call(API_VERSIONS)).structured["exit_code"] == 0

    on_the_road(at, use)


def test_a_clock_that_goes_back_breaks_neither_chain_nor_deadline(at: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now(UTC)
    times = iter(now - timedelta(hours=hours) for hours in range(1000))
    monkeypatch.setattr("obi_mcp.audit.utc_now", lambda: next(times).isoformat())
    monkeypatch.setattr(time, "time", lambda: next(times).timestamp())

    async def use(call: Call) -> None:
        at.behave("print qq(v1\\n)")
        first = await call(API_VERSIONS)
        assert first.structured["exit_code"] == 0 and 0 <= first.structured["duration_ms"] < 60_000
        at.behave("sleep 1000 while 1")
        fits((await call(API_VERSIONS, timeout_s=0.3)).structured, LATE)

    on_the_road(at, use)
    assert verify(at.audit).good


CLOCKS = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today"}
TELLS_THE_TIME = {"log.py"}
"""Where a time is written down for people. Whatever waits or measures asks the monotonic clock."""


@pytest.mark.parametrize("folder", ["process", "enforcer", "command", "cli", ""])
def test_nothing_that_waits_or_measures_asks_the_wall_clock(folder: str) -> None:
    for path in (PACKAGE / folder).glob("*.py"):
        if path.name in TELLS_THE_TIME:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert f"{node.value.id}.{node.attr}" not in CLOCKS, f"{path.name}:{node.lineno}"


def test_a_private_directory_that_somebody_removes_is_told(at: Place) -> None:
    async def use(call: Call) -> None:
        at.behave("print qq(v1\\n)")
        assert (await call(API_VERSIONS)).structured["exit_code"] == 0
        private = next(at.runtime.iterdir())
        aside = private.rename(at.root / "aside")
        fits((await call(API_VERSIONS)).structured, NO_FOLDER)
        await asyncio.to_thread(aside.rename, private)
        assert (await call(API_VERSIONS)).structured["exit_code"] == 0

    on_the_road(at, use)
