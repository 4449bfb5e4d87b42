"""jq: built from its own C sources, which PyPI's ``jq`` carries in its source distribution."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from recipes import toolchain
from recipes.step import BuildFailed, say
from recipes.store import Recipe, Store, Workplace

VERSION = "1.8.2"
LINKED = {"oniguruma": "6.9.10", "decnumber": "3.68"}
"""The libraries below its ``vendor`` that are linked into it."""
AT_LEAST = (1, 7)
PACKAGE = "1.13.0"
PACKAGE_HASH = "sha256:e62bdddeab3b8a0a404581a7bb6f1e8c4cc6082280870031f746074f4cac52c0"
CONFIGURE = (
    "./configure",
    "--disable-maintainer-mode",
    "--disable-docs",
    "--with-oniguruma=builtin",
    "--disable-shared",
    "--enable-static",
    # Static: where filters may open no file, a loader could not open its libraries.
    "--enable-all-static",
    "CFLAGS=-O2",
    "LDFLAGS=-s",
)


def get(store: Store) -> Path:
    """The pinned jq, or the machine's own where it cannot be built and that one is new enough."""
    try:
        return store.get(_recipe())
    except BuildFailed as failure:
        found = shutil.which("jq")
        if found is None or machine_version(found) < AT_LEAST:
            raise
        say(f"{failure}\njq: taking the machine's {found} instead")
        return Path(found).resolve()


def pinned(store: Store) -> Path:
    """The pinned jq and no other, static, so that it runs on any base. Raises: BuildFailed."""
    return store.get(_recipe())


def cross_recipe(*, triplet: str, architecture: str) -> Recipe:
    """The pinned jq for another architecture, by Debian's cross compiler: Debian 12's own jq is 1.6, older than 1.7."""
    requirement = toolchain.pip_requirement("jq", PACKAGE, (PACKAGE_HASH,))
    options = (f"--host={triplet}", f"CC={triplet}-gcc")

    def build(work: Workplace) -> None:
        toolchain.ensure_cross_compiler(work.steps, work.scratch, triplet=triplet, architecture=architecture)
        _compile(work, requirement, options)

    inputs = (requirement.encode(), repr((*CONFIGURE, *options)).encode())
    return Recipe(f"jq-{architecture}", VERSION, "bin/jq", inputs, build)


def machine_version(binary: str) -> tuple[int, ...]:
    """The version that a jq says it is, as numbers; ``(0,)`` when it says none."""
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", said)
    return tuple(int(number) for number in found.groups() if number) if found else (0,)


def _recipe() -> Recipe:
    requirement = toolchain.pip_requirement("jq", PACKAGE, (PACKAGE_HASH,))
    inputs = (requirement.encode(), repr(CONFIGURE).encode())
    return Recipe("jq", VERSION, "bin/jq", inputs, lambda work: _build(work, requirement))


def _build(work: Workplace, requirement: str) -> None:
    toolchain.ensure_c_compiler(work.steps, work.scratch)
    source = _compile(work, requirement, ())
    said = ".".join(str(number) for number in machine_version(str(source / "jq")))
    if said != VERSION:
        raise BuildFailed(f"jq: built for {VERSION}, but it says {said}")


def _compile(work: Workplace, requirement: str, options: tuple[str, ...]) -> Path:
    """Leave jq in ``out/bin``; the folder it was made in."""
    listing = work.scratch / "requirements.txt"
    listing.write_text(requirement)
    toolchain.pip(work.steps, work.scratch, "download", "--no-binary", "jq", "-r", str(listing))
    # INVARIANT: pip checked the outer archive's hash, so what is inside it needs no further check.
    for archive in (f"jq-{PACKAGE}.tar.gz", f"jq-{PACKAGE}/deps/jq-{VERSION}.tar.gz"):
        work.steps.run(["tar", "-xzf", archive, "--no-same-owner"], cwd=work.scratch)
    source = work.scratch / f"jq-{VERSION}"
    if f"AC_INIT(onig, {LINKED['oniguruma']})" not in (source / "vendor/oniguruma/configure.ac").read_text():
        raise BuildFailed(f"jq {VERSION} has another oniguruma than {LINKED['oniguruma']}: correct LINKED")
    work.steps.run((*CONFIGURE, *options), cwd=source)
    work.steps.run(["make", f"-j{os.cpu_count() or 1}"], cwd=source)
    (work.out / "bin").mkdir()
    shutil.copy2(source / "jq", work.out / "bin/jq")
    return source
