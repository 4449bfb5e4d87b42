"""The server itself: its wheel, byte code beside its sources, the policy in its compiled form, and ``obi-mcp``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from recipes import toolchain
from recipes.step import BuildFailed
from recipes.store import Recipe, Store, Workplace

from parts import wheels
from parts.bytecode import PYTHON, Python

CACHE = "var/cache"
_BUILD_PACKAGES = frozenset({"hatchling", "packaging", "pathspec", "pluggy", "trove-classifiers"})
# -I: nothing of the environment or of the working directory is imported.
_PROGRAM = f"""\
#!/usr/bin/python{PYTHON} -I
import sys

from obi_mcp.__main__ import main

sys.exit(main())
"""
_COMPILE_POLICY = """
import sys
sys.path[:0] = sys.argv[1:]
from obi_mcp.config import Settings
from obi_mcp.policy.engine import Policy
Policy.load_compiled(Settings())
"""


def make(project: Path, python: Python, packages: Path, store: Store, work: Workplace) -> Path:
    """The folder with the server's files; ``packages`` has what it imports, for this machine. Raises: BuildFailed."""
    root = work.out / "root"
    wheel = _build_wheel(project, store, work)
    wheels.unpack(wheel, root / wheels.SITE)
    python.compile(root, wheels.SITE, work, sources=True)
    program = root / "usr/local/bin/obi-mcp"
    program.parent.mkdir(parents=True)
    program.write_text(_PROGRAM, encoding="utf-8")
    program.chmod(0o755)
    cache = root / CACHE
    cache.mkdir(parents=True)
    argv = python.argv("-s", "-S", "-c", _COMPILE_POLICY, root / wheels.SITE, packages / wheels.SITE)
    work.steps.run(argv, cwd=work.scratch, env=python.environment | {"XDG_CACHE_HOME": str(cache)})
    compiled = list((cache / "obi-mcp").glob("policy-*.json"))
    if len(compiled) != 1:
        raise BuildFailed(f"the policy was not compiled into {cache}")
    compiled[0].parent.chmod(0o755)
    compiled[0].chmod(0o644)
    return root


def _build_wheel(project: Path, store: Store, work: Workplace) -> Path:
    place = work.scratch / "wheel"
    argv = [*_hatchling(project, store), "build", "-t", "wheel", "-d", str(place)]
    work.steps.run(argv, cwd=project, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"})
    return next(place.glob("*.whl"))


def _hatchling(project: Path, store: Store) -> list[str]:
    """hatchling of this Python, or of an environment of its own with the versions of the lock."""
    try:
        import hatchling  # noqa: F401

        return [sys.executable, "-m", "hatchling"]
    except ImportError:
        pass
    listed = [
        one
        for one in wheels.requirements(project / "requirements-dev.lock")
        if wheels.package_name(one) in _BUILD_PACKAGES
    ]

    def build(work: Workplace) -> None:
        listing = work.scratch / "requirements.txt"
        listing.write_text("\n".join(listed) + "\n", encoding="utf-8")
        toolchain.pip(work.steps, work.scratch, "install", "--target", str(work.out), "-r", str(listing))

    found = store.get(Recipe("hatchling", "(locked)", "hatchling", tuple(map(str.encode, listed)), build))
    start = f"import sys; sys.path.insert(0, {str(found.parent)!r}); from hatchling.cli import hatchling; hatchling()"
    return [sys.executable, "-c", start]
