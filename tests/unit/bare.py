"""A Python that has nothing beside it.

The server also looks for kubectl, helm and jq next to its own interpreter, where ``make setup`` puts them.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]


def bare_python(directory: Path) -> str:
    """A link to the base interpreter in a directory of its own; it needs ``bare_environment``."""
    place = directory / "python-alone"
    place.mkdir(exist_ok=True)
    link = place / "python"
    if not link.exists():
        link.symlink_to(Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}")
    return str(link)


def bare_environment(directory: Path, **more: str) -> dict[str, str]:
    """No programs in PATH, no kubeconfig; the policy's compiled form in its usual place."""
    kept = {name: os.environ[name] for name in ("HOME", "XDG_CACHE_HOME") if name in os.environ}
    path = os.pathsep.join([f"{ROOT}/server", sysconfig.get_paths()["purelib"]])
    return {**kept, "PATH": str(directory), "PYTHONPATH": path, "KUBECONFIG": f"{directory}/no-kubeconfig", **more}
