"""Which files a program needs to run at all: what Landlock leaves readable to the children."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from pathlib import Path

LIBRARIES = ("/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache")
_STORES = ("/nix/store", "/gnu/store")
NETWORK = (
    "/usr/share",
    *("/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/crypto-policies"),
    *("/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf"),
    *("/etc/services", "/etc/protocols", "/etc/mime.types", "/etc/localtime", "/etc/passwd", "/etc/group"),
    *("/proc/sys", "/sys/kernel/mm", "/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"),
)
"""What a program that speaks TLS looks up: names, roots, time zones; nothing of other processes."""

_ELF = b"\x7fELF"
_SHEBANG = b"#!"
_PT_INTERP = 3
_BROAD = frozenset({"/", "/etc", "/home", "/mnt", "/opt", "/root", "/run", "/srv", "/tmp", "/usr", "/var", "/var/run"})


def libraries_of(program: str) -> tuple[str, ...]:
    """Where the program's libraries may lie: the system's places, those beside it, or the store that it is in."""
    prefix = Path(program).parent.parent
    beside = tuple(str(prefix / name) for name in ("lib", "lib64") if str(prefix) != "/")
    stores = tuple(store for store in _STORES if program.startswith(store + "/"))
    return tuple(dict.fromkeys((*LIBRARIES, *beside, *stores)))


def loader_of(program: str) -> str | None:
    """The file that the kernel runs to run the program: its ELF interpreter, or what ``#!`` names; None: itself."""
    try:
        with open(program, "rb") as file:
            start = file.read(4096)
    except OSError:
        return None
    if start.startswith(_SHEBANG):
        words = start.split(b"\n", 1)[0][len(_SHEBANG) :].split()
        return os.path.realpath(os.fsdecode(words[0])) if words else None
    if not start.startswith(_ELF) or len(start) < 64 or start[4] != 2:
        return None
    table, size, count = struct.unpack_from("<32xQ14xHH", start)
    for number in range(count):
        at = table + number * size
        if at + 40 > len(start):
            return None
        kind, offset, length = struct.unpack_from("<I4xQ16xQ", start, at)
        if kind == _PT_INTERP and offset + length <= len(start):
            return os.path.realpath(os.fsdecode(start[offset : offset + length].rstrip(b"\0")))
    return None


def with_loaders(programs: tuple[str, ...]) -> tuple[str, ...]:
    """The programs and what the kernel runs to run them; a script's interpreter has a loader in turn."""
    loaders = [loader for path in programs if (loader := loader_of(path))]
    loaders += [loader for path in loaders if (loader := loader_of(path))]
    return tuple(dict.fromkeys((*programs, *loaders)))


def around(paths: Iterable[str], home: str) -> tuple[str, ...]:
    """The folders of files that are replaced while we run (a projected token, a rewritten kubeconfig).

    A folder that holds much else (a home, ``/etc``) is not opened for one file in it: then it is the file alone.
    """
    granted: dict[str, None] = {}
    for path in paths:
        for file in dict.fromkeys((os.path.abspath(path), os.path.realpath(path))):
            folder = file if os.path.isdir(file) else os.path.dirname(file)
            granted[file if is_broad(folder, home) else folder] = None
    return tuple(granted)


def is_broad(folder: str, home: str) -> bool:
    """Whether a folder holds much else than what one looks for in it: a home, ``/etc``, ``/tmp``."""
    return folder in _BROAD or folder == home or os.path.dirname(folder) == "/home"
