"""Python packages as they stand in a lock with hashes: downloaded for the platform, unpacked, compiled."""

from __future__ import annotations

import inspect
import re
import shutil
import sys
import zipfile
from pathlib import Path

from recipes import toolchain
from recipes.step import BuildFailed
from recipes.store import Recipe, Workplace

from parts.bytecode import PYTHON, Python
from parts.platform import Platform

SITE = f"usr/local/lib/python{PYTHON}/dist-packages"
"""Where Debian's Python, also a distroless one, looks for what Debian did not package."""

_GLIBC = ("2_17", "2_24", "2_26", "2_27", "2_28", "2_31", "2_34", "2_35", "2_36")
"""Oldest glibc that a wheel may ask for, up to Debian 12's."""
_DROPPED = re.compile(
    r"(^|/)(tests?|testing)/|\.(pyi|h|c|pxd|pyx|pxi)$|\.dist-info/(RECORD|INSTALLER|REQUESTED|direct_url\.json)$"
    # Of cffi the library needs its compiled part alone: the rest reads C and builds extensions.
    r"|^(cffi|pycparser)/"
)
_DATA = re.compile(r"^[^/]+\.data/(?P<kind>\w+)/(?P<rest>.+)$")


def recipe(
    name: str, platform: Platform, lock: Path, python: Python, *, without: frozenset[str] = frozenset()
) -> Recipe:
    """The packages of a lock, but for those named ``without``, below ``root/SITE`` and compiled by ``python``."""
    wanted = [one for one in requirements(lock) if package_name(one) not in without]

    def build(work: Workplace) -> None:
        for wheel in download(wanted, platform, work):
            unpack(wheel, work.out / "root" / SITE)
        python.compile(work.out / "root", SITE, work, sources=False)
        _strip(work, platform)

    inputs = (*(one.encode() for one in wanted), *python.key, inspect.getsource(sys.modules[__name__]).encode())
    return Recipe(f"{name}-{platform.architecture}", "(locked)", "root", inputs, build)


def _strip(work: Workplace, platform: Platform) -> None:
    """Drop symbols and debugging information from shared objects: a tenth of the packages' compressed size."""
    program = "strip"
    if platform.native:
        toolchain.ensure_c_compiler(work.steps, work.scratch)
    else:
        toolchain.ensure_cross_compiler(
            work.steps, work.scratch, triplet=platform.triplet, architecture=platform.architecture
        )
        program = f"{platform.triplet}-strip"
    objects = sorted((work.out / "root").rglob("*.so"))
    work.steps.run([program, "--strip-unneeded", *objects], cwd=work.scratch)


def requirements(lock: Path) -> list[str]:
    """The entries of a requirements file, each with its hashes, in one line each."""
    text = lock.read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def names(lock: Path) -> frozenset[str]:
    """The packages of a lock."""
    return frozenset(map(package_name, requirements(lock)))


def download(wanted: list[str], platform: Platform, work: Workplace) -> list[Path]:
    """The wheels, whose hashes pip has checked. Raises: BuildFailed."""
    listing = work.scratch / "requirements.txt"
    listing.write_text("\n".join(wanted) + "\n", encoding="utf-8")
    tags = [word for one in _GLIBC for word in ("--platform", f"manylinux_{one}_{platform.machine}")]
    tags += ["--platform", f"manylinux2014_{platform.machine}"]
    abis = [word for one in (f"cp{PYTHON.replace('.', '')}", "abi3", "none") for word in ("--abi", one)]
    arguments = ("--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON}", *tags, *abis)
    wheels = work.scratch / "wheels"
    toolchain.pip(work.steps, work.scratch, "download", *arguments, "--dest", str(wheels), "-r", str(listing))
    return sorted(wheels.glob("*.whl"))


def unpack(wheel: Path, site: Path) -> None:
    """Unpack a wheel without what only building or testing needs. Raises: BuildFailed for parts with no place."""
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            name = entry.filename
            data = _DATA.match(name)
            if data is not None:
                if data["kind"] in {"scripts", "headers", "data"}:
                    continue
                name = data["rest"]
            if entry.is_dir() or _DROPPED.search(name):
                continue
            path = site / name
            if not path.resolve().is_relative_to(site.resolve()):
                raise BuildFailed(f"{wheel.name} has a file outside its folder: {name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, path.open("wb") as target:
                shutil.copyfileobj(source, target)
            path.chmod(0o644)


def package_name(requirement: str) -> str:
    return re.split(r"[=<>~! ;\[]", requirement, maxsplit=1)[0].lower()
