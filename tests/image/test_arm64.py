"""The other platform's image, whose programs run here in an emulator: that they start and are what they should be.

Only programs that start no others: the emulator is not registered with the kernel.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from parts.contents import BASE, PARTS
from parts.description import ENVIRONMENT
from parts.platform import ARM64, this_machine
from recipes.store import Recipe, Store, Workplace, cache_root
from tests.daemon import ROOT, obstacle

EMULATOR = "qemu-aarch64-static"

pytestmark = [
    pytest.mark.image,
    pytest.mark.skipif(this_machine() is ARM64, reason="this machine is one"),
    pytest.mark.skipif(obstacle() is not None, reason="chroot and Debian's packages are needed"),
]


def emulator() -> Path:
    """Debian's, downloaded into the cache."""

    def unpack(work: Workplace) -> None:
        quiet = ["-q", "-o", "APT::Sandbox::User=root"]
        if not any(Path("/var/lib/apt/lists").glob("*_Packages*")):
            work.steps.run(["apt-get", "update", *quiet], cwd=work.scratch)
        work.steps.run(["apt-get", "download", *quiet, "qemu-user-static"], cwd=work.scratch)
        package = next(work.scratch.glob("*.deb"))
        work.steps.run(["dpkg-deb", "-x", package, work.scratch / "root"], cwd=work.scratch)
        shutil.move(work.scratch / "root/usr/bin" / EMULATOR, work.out / EMULATOR)

    release = Path("/etc/os-release").read_bytes()
    return Store(cache_root().parent / "sandbox").get(Recipe("qemu", "(Debian's)", EMULATOR, (release,), unpack))


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """The arm64 image's file system, with the emulator in it."""
    with tempfile.TemporaryDirectory(prefix="obi-mcp-arm64-") as place:
        argv = [sys.executable, str(ROOT / "image/build.py"), "--parts", "--platform=arm64", "--output", place]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        made = Path(place) / "root"
        for part in (BASE, *PARTS):
            shutil.copytree(Path(place) / "parts" / ARM64.name / part, made, symlinks=True, dirs_exist_ok=True)
        shutil.copy2(emulator(), made / EMULATOR)
        yield made


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("/usr/local/bin/kubectl", "version", "--client"), "Client Version: v1."),
        (("/usr/local/bin/helm", "version", "--short"), "v4."),
        (("/usr/local/bin/jq", "-n", "6 * 7"), "42"),
        (("/usr/local/bin/grep", "--version"), "grep (GNU grep)"),
        (("/usr/local/bin/sort", "--version"), "sort (GNU coreutils)"),
        (("/usr/local/bin/diff", "--version"), "diff (GNU diffutils)"),
        (("/usr/bin/python3.11", "-I", "/usr/local/bin/obi-mcp", "--version"), "obi-mcp "),
        (
            ("/usr/bin/python3.11", "-I", "/usr/local/bin/obi-mcp", "policy", "check", "kubectl get pods -A"),
            "narrow kubectl.get",
        ),
        (
            (
                *("/usr/bin/python3.11", "-I", "-c"),
                "import platform, ssl, ctypes, yaml, rpds, pydantic_core, mcp.server\n"
                "import cryptography.hazmat.bindings._rust\n"
                "print(platform.machine(), yaml.__with_libyaml__)",
            ),
            "aarch64 True",
        ),
    ],
    ids=lambda value: Path(value[0]).name if isinstance(value, tuple) else None,
)
def test_a_program_runs(root: Path, words: tuple[str, ...], shown: str) -> None:
    chroot = shutil.which("chroot", path=f"{os.environ['PATH']}:/usr/sbin") or "chroot"
    argv = [chroot, str(root), f"/{EMULATOR}", *words]
    done = subprocess.run(argv, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(shown)
