"""``make bench-image``: the image's size layer by layer, its start-up and its memory. It asserts nothing.

Exit code 0 when everything was measured, 1 when something could not be, 130 when interrupted.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from layout import Image, blob_path, read_image
from tests.bench.table import Bar, Row, median, print_table
from tests.daemon import ROOT, DaemonFailed, DockerDaemon, obstacle
from tests.image.container import HARDENED, Built, build
from tests.image.test_session import INITIALIZE

MB = 1_000_000
STARTS = 9
SIZE_BAR = Bar(65)
_RESIDENT = "print([l.split()[1] for l in open('/proc/1/status') if l.startswith('VmRSS')][0])"


def main() -> int:
    """Builds, measures and prints; what was started is stopped before it returns."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        with tempfile.TemporaryDirectory(prefix="obi-mcp-bench-") as place:
            rows, failures = _measure(Path(place))
    except KeyboardInterrupt:
        print("interrupted; everything was stopped", file=sys.stderr)
        return 130
    print_table(rows)
    for failure in failures:
        print(f"NOT MEASURED: {failure}")
    return 1 if failures else 0


def _measure(place: Path) -> tuple[list[Row], list[str]]:
    _tell("building")
    began = time.perf_counter()
    built = build(place / "image")
    rows = [
        Row("build, warm cache", time.perf_counter() - began, "s", note="parts, layers, layout, archive; one platform")
    ]
    failures: list[str] = []
    image = read_image(built.layout)
    rows += _sizes(image, built.layout)
    if shutil.which("zstd") is None:
        failures.append("the size by zstd: there is no zstd on this machine")
    else:
        _tell("compressing by zstd")
        rows.append(Row("the same by zstd -19", _by_zstd(image, built.layout), "MB", note="what skopeo writes"))
    _tell("building with what is optional")
    rows += _optional(image, place / "larger")
    if (why := obstacle()) is not None:
        return rows, [*failures, f"start-up and memory: {why}"]
    try:
        with DockerDaemon.up("bench") as daemon:
            rows += _running(daemon, built)
    except DaemonFailed as problem:
        failures.append(f"start-up and memory: {problem}")
    return rows, failures


def _sizes(image: Image, place: Path) -> list[Row]:
    rows = []
    for layer in image.layers:
        unpacked = len(_unpacked(place, layer.digest)) / MB
        rows.append(Row(f"layer {layer.title}", layer.size / MB, "MB", note=f"gzip -9 of {unpacked:.1f} MB"))
    rows.append(Row("image, compressed", image.compressed / MB, "MB", SIZE_BAR, "gzip -9; what a pull transfers"))
    return rows


def _unpacked(place: Path, digest: str) -> bytes:
    return subprocess.run(["gzip", "-dc", blob_path(place, digest)], stdout=subprocess.PIPE, check=True).stdout


def _by_zstd(image: Image, place: Path) -> float:
    total = 0
    for layer in image.layers:
        argv = ["zstd", "-19", "-T0", "-q", "-c"]
        content = _unpacked(place, layer.digest)
        total += len(subprocess.run(argv, input=content, stdout=subprocess.PIPE, check=True).stdout)
    return total / MB


def _optional(plain: Image, place: Path) -> list[Row]:
    listing = subprocess.run(
        [sys.executable, str(ROOT / "tests/sandbox/build.py"), "--json"], stdout=subprocess.PIPE, check=True
    ).stdout
    larger = read_image(build(place, "--with-analysis", "--with-obi", json.loads(listing)["programs"]["beyla"]).layout)
    known = {layer.title for layer in plain.layers}
    notes = {"analysis": "WITH_ANALYSIS=1: duckdb, protobuf", "obi": "WITH_OBI=…: here Beyla 1.8"}
    return [
        Row(f"layer {layer.title}", layer.size / MB, "MB", note=notes[layer.title])
        for layer in larger.layers
        if layer.title not in known
    ]


def _running(daemon: DockerDaemon, built: Built) -> list[Row]:
    _tell("starting containers")
    began = time.perf_counter()
    daemon.load(built.archive)
    loaded = time.perf_counter() - began
    run = [str(daemon.bin / "docker"), "run", "-i", "--rm", "--network=none", *HARDENED, built.reference]
    bare = [sys.executable, "-m", "obi_mcp", "serve"]
    version = [str(daemon.bin / "docker"), "run", "--rm", "--network=none", *HARDENED, built.reference, "--version"]
    check = [*version[:-1], "policy", "check", "kubectl get pods -A"]
    contained, outside, versions, checks = [], [], [], []
    for _ in range(STARTS):
        contained.append(_to_initialize(run, daemon.environment))
        outside.append(_to_initialize(bare, dict(os.environ)))
        versions.append(_to_end(version, daemon.environment))
        checks.append(_to_end(check, daemon.environment))
    note = f"median of {STARTS}, interleaved with the next"
    return [
        Row("docker load", loaded, "s"),
        Row("docker run to initialize", median(contained), "s", note=note),
        Row("bare process to initialize", median(outside), "s", note="the checkout's server, the same way"),
        Row("container : bare", median(contained) / median(outside), "×"),
        Row("docker run … --version", median(versions), "s", note="nearly all of it is Docker's"),
        Row("docker run … policy check", median(checks), "s", note="one line"),
        Row("idle server", _resident(daemon, built), "MB", Bar(80), "resident, process 1 of the container"),
    ]


def _to_initialize(argv: Sequence[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    with subprocess.Popen(
        argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdin is not None and server.stdout is not None
        server.stdin.write(json.dumps(INITIALIZE) + "\n")
        server.stdin.flush()
        answer = server.stdout.readline()
        took = time.perf_counter() - began
        assert "serverInfo" in answer
        server.stdin.close()
    return took


def _to_end(argv: Sequence[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return time.perf_counter() - began


def _resident(daemon: DockerDaemon, built: Built) -> float:
    argv = [
        str(daemon.bin / "docker"),
        "run",
        "-i",
        "--rm",
        "--name=idle",
        "--network=none",
        *HARDENED,
        built.reference,
    ]
    with subprocess.Popen(
        argv,
        env=daemon.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdin is not None and server.stdout is not None
        server.stdin.write(json.dumps(INITIALIZE) + "\n")
        server.stdin.flush()
        server.stdout.readline()
        kilobytes = daemon.docker("exec", "idle", "/usr/bin/python3.11", "-I", "-c", _RESIDENT).stdout
        server.stdin.close()
    return int(kilobytes) / 1024


def _tell(text: str) -> None:
    print(f"{text} …", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
