"""The private directory of one server: homes, caches and sockets of its children, and nothing of anybody else's."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from obi_mcp.errors import ConfigError, ProgramFailed

_PREFIX = "obi-mcp-"
_FOLDERS = ("bin", "home", "tmp", "cache", "work", "sockets", "helm", "helm/plugins")
_MAX_SOCKET_PATH = 100
"""A unix socket's path has 107 bytes at most; the name within ``sockets`` takes a few."""


@dataclass(frozen=True, slots=True)
class PrivateDirectory:
    """Folders below ``root``, all of mode 0700. On a tmpfs where there is one: kubectl caches many small files."""

    root: Path

    @classmethod
    def make(cls, environ: Mapping[str, str]) -> PrivateDirectory:
        """A new one. Raises: ConfigError when there is no place to write."""
        tried: list[str] = []
        for base in _places(environ):
            try:
                root = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
            except OSError as error:
                tried.append(f"{base}: {error.strerror}")
                continue
            for folder in _FOLDERS:
                (root / folder).mkdir(mode=0o700)
            return cls(root)
        raise ConfigError(
            f"no place for the private directory ({'; '.join(tried)})",
            "mount a tmpfs at /tmp (docker run --tmpfs=/tmp), or set TMPDIR",
        )

    def path(self, folder: str) -> str:
        """The absolute path of a folder in it."""
        return str(self.root / folder)

    def new_folder(self) -> str:
        """A folder for the temporary files of one call, to be given back to ``remove``. Raises: ProgramFailed."""
        place = self.root / "tmp"
        try:
            return tempfile.mkdtemp(dir=place)
        except OSError as error:
            raise ProgramFailed(
                f"temporary files cannot be made in {place}: {error.strerror}",
                "make room there; where the directory is gone, restart the server",
            ) from None

    def remove(self, folder: str) -> None:
        """Removes a folder of ``new_folder`` and what a program left in it."""
        try:
            os.rmdir(folder)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)

    def discard(self) -> None:
        """Removes the directory with all that is in it."""
        shutil.rmtree(self.root, ignore_errors=True)

    def link_programs(self, programs: Mapping[str, str]) -> None:
        """Makes ``bin`` hold exactly these names, each a link to its file."""
        folder = self.root / "bin"
        for link in folder.iterdir():
            if link.name not in programs:
                link.unlink()
        for name, target in programs.items():
            link = folder / name
            if not link.is_symlink():
                link.symlink_to(target)
            elif os.readlink(link) != target:
                link.unlink()
                link.symlink_to(target)


def _places(environ: Mapping[str, str]) -> list[str]:
    """Where to try, best first: a tmpfs of the user's own, the shared one, then where temporary files go."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    candidates = [runtime, "/dev/shm", environ.get("TMPDIR", ""), "/tmp", "/var/tmp"]
    fitting = [place for place in candidates if place.startswith("/") and len(place) + 40 < _MAX_SOCKET_PATH]
    return list(dict.fromkeys(fitting))
