"""Becomes an ordinary user and then the program that it is given; for tests that start as root.

Python may lie below a directory that only root may enter (``/root``). In a mount namespace of its own that directory is
then covered by one that everybody may enter, with the same entries bound into it.

usage: as_nobody.py UID PROGRAM [ARGUMENT…]
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
from pathlib import Path

_NEW_MOUNTS, _PRIVATE, _BIND, _ALL = 0x20000, 1 << 18, 4096, 16384
_LIBC = ctypes.CDLL(None, use_errno=True)


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    words = [word.encode() if word is not None else None for word in (source, target, kind, data)]
    if _LIBC.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount {target}: {os.strerror(number)}")


def _closed(path: Path) -> Path | None:
    """The first directory on the way to ``path`` that others may not enter."""
    for folder in reversed(path.parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            return folder
    return None


def open_up(path: Path) -> None:
    """Lets everybody reach ``path``, in this mount namespace."""
    folder = _closed(path)
    if folder is None:
        return
    entries = [entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink()]
    below = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    _mount("tmpfs", str(folder), "tmpfs", 0, "mode=755")
    for name in entries:
        (folder / name).mkdir()
        _mount(f"/proc/self/fd/{below}/{name}", str(folder / name), None, _BIND | _ALL)
    os.close(below)


def main() -> None:
    uid, program, *arguments = sys.argv[1:]
    if _LIBC.unshare(_NEW_MOUNTS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    _mount("none", "/", None, _PRIVATE | _ALL)
    open_up(Path(os.path.realpath(program)))
    open_up(Path(__file__).resolve())
    os.setgroups([])
    os.setgid(int(uid))
    os.setuid(int(uid))
    os.execv(program, [program, *arguments])


if __name__ == "__main__":
    main()
