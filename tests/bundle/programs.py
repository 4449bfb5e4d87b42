"""Debian's registry, skopeo and podman, downloaded once and run from the cache. Not a test."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [path for path in (str(ROOT), str(ROOT / "image")) if path not in sys.path]

from recipes.store import Recipe, Store, Workplace, cache_root  # noqa: E402

PACKAGES = ("docker-registry", "skopeo", "podman", "conmon", "libgpgme11", "libassuan0", "libgpg-error0", "libsubid4")
WITHIN_S = 120.0
_POLL_S = 0.02
_LISTENING = re.compile(r'msg="listening on (?P<address>[0-9.]+:\d+)"')


def carrying_programs() -> dict[str, str]:
    """PATH and library path with docker-registry, skopeo and podman in them. Nothing is installed."""
    release = Path("/etc/os-release").read_bytes()
    inputs = (*(name.encode() for name in PACKAGES), release)
    recipe = Recipe("registry", "(Debian's)", "root/usr/bin/docker-registry", inputs, _unpack)
    usr = Store(cache_root().parent / "sandbox").get(recipe).parents[1]
    libraries = sorted({str(file.parent) for file in (usr / "lib").rglob("*.so.*")})
    return {"PATH": f"{usr / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin", "LD_LIBRARY_PATH": ":".join(libraries)}


def _unpack(work: Workplace) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    quiet = ["-q", "-o", "APT::Sandbox::User=root"]
    if not any(Path("/var/lib/apt/lists").glob("*_Packages*")):
        work.steps.run(["apt-get", "update", *quiet], cwd=work.scratch, env=environment)
    work.steps.run(["apt-get", "download", *quiet, *PACKAGES], cwd=work.scratch, env=environment)
    for package in sorted(work.scratch.glob("*.deb")):
        work.steps.run(["dpkg-deb", "-x", package, work.out / "root"], cwd=work.scratch)


@contextmanager
def registry(folder: Path, *, netns: str | None, login: str | None = None) -> Iterator[str]:
    """A registry on the loopback of a network namespace (None: our own), on a port that the kernel chose; its
    address. ``login``: the line of an htpasswd file (bcrypt); None: everybody may."""
    folder.mkdir()
    config = folder / "config.yml"
    text = (
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder / 'data'}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n"
    )
    if login is not None:
        (folder / "htpasswd").write_text(f"{login}\n", encoding="utf-8")
        text += f"auth: {{htpasswd: {{realm: test, path: {folder / 'htpasswd'}}}}}\n"
    config.write_text(text, encoding="utf-8")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                "setpriv",
                "--pdeathsig",
                "KILL",
                *(inside(netns) if netns else ()),
                "docker-registry",
                "serve",
                str(config),
            ],
            env=carrying_programs(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield _address(process, folder / "log")
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def inside(netns: str) -> tuple[str, ...]:
    """What runs a program in a network namespace."""
    return ("nsenter", f"--net=/run/netns/{netns}", "--")


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + WITHIN_S
    while (found := _LISTENING.search(log.read_text(encoding="utf-8"))) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"the registry does not listen:\n{log.read_text(encoding='utf-8')}")
        time.sleep(_POLL_S)
    return found["address"]
