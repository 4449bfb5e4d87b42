"""The folder of one capture: made for it, held by a lock while it lives, removed with it or by the next one."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from obi_mcp.errors import ConfigError

_PREFIX = "obi-mcp-capture-"
_LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Folder:
    """A private folder. The lock is held by the open descriptor, so it goes when the process goes."""

    path: Path
    lock: int

    @classmethod
    def make(cls, place: str | None) -> Folder:
        """A new one below ``place``; what captures that were killed left there is removed first.

        Raises: ConfigError when nothing can be written there.
        """
        base = Path(place or tempfile.gettempdir())
        try:
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sweep(base)
            path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
            lock = os.open(path / _LOCK, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"no place for captured telemetry in {base}: {error.strerror}",
                "set capture.directory to a directory on a disk that the server's user may write to",
            ) from None
        return cls(path, lock)

    def remove(self) -> None:
        """Removes the folder and lets go of it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self.lock)


def _sweep(base: Path) -> None:
    for path in base.glob(f"{_PREFIX}*"):
        try:
            lock = os.open(path / _LOCK, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue  # somebody else's, or just being made
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        except OSError:
            pass  # in use
        finally:
            os.close(lock)
