"""Where the programs are: those of the sandbox (build.py) and kubectl (image/programs.py), built if they must be."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.sandbox.instance import SandboxError

_HERE = Path(__file__).resolve().parent
_IMAGE_PROGRAMS = _HERE.parent.parent / "image" / "programs.py"


@dataclass(frozen=True, slots=True)
class Programs:
    """Absolute paths. ``runc`` is None where the machine has none; ``runtime`` holds containerd and its plugins."""

    cluster: Path
    kwok: Path
    companion: Path
    runtime: Path
    images: Path
    kubectl: Path
    runc: Path | None
    versions: dict[str, str]


def find() -> Programs:
    """All programs; takes minutes when they are not in the cache yet. Raises: SandboxError when a build fails."""
    made = json.loads(_output(_HERE / "build.py", "--json"))
    directory = Path(_output(_IMAGE_PROGRAMS, "--print-bin").strip())
    paths = made["programs"]
    runc = shutil.which("runc", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    return Programs(
        cluster=Path(paths["cluster"]),
        kwok=Path(paths["kwok"]),
        companion=Path(paths["companion"]),
        runtime=Path(paths["containerd"]).parent,
        images=Path(paths["images"]),
        kubectl=directory / "kubectl",
        runc=Path(runc) if runc else None,
        versions=made["versions"],
    )


def _output(script: Path, flag: str) -> str:
    done = subprocess.run([sys.executable, str(script), flag], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SandboxError(f"{script.name} ended with {done.returncode}; what it said is above")
    return done.stdout
