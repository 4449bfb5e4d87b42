"""The programs that are taken from the machine: the text filters, and diff for ``kubectl diff``."""

from __future__ import annotations

import shutil
from pathlib import Path

from recipes.step import BuildFailed

NAMES = ("grep", "head", "tail", "sort", "uniq", "wc", "cut", "tr", "diff")


def find() -> dict[str, Path]:
    """The file behind each name, symbolic links resolved. Raises: BuildFailed naming all that are missing."""
    found = {name: shutil.which(name) for name in NAMES}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise BuildFailed(f"not on this machine: {' '.join(missing)}; install grep, coreutils and diffutils")
    return {name: Path(path).resolve() for name, path in found.items() if path is not None}
