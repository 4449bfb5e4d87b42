"""What an OBI program says of itself without being started: a Go program carries the module that it was built from.

OBI has no ``--version``, and its first log line comes when it runs already; which keys it reads has to be known before.
Source of fact: Go's debug/buildinfo (the section ``.go.buildinfo``, with the text in it since Go 1.18).
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from obi_mcp.obi.finding import Program

_MODULES: tuple[tuple[str, Program], ...] = (
    ("go.opentelemetry.io/obi", "obi"),
    ("github.com/open-telemetry/opentelemetry-ebpf-instrumentation", "obi"),
    ("github.com/grafana/beyla", "beyla"),
)
_SECTION, _MAGIC = b".go.buildinfo", b"\xff Go buildinf:"
_TEXTS_AT, _HAS_TEXTS = 32, 2
_SENTINEL = 16
"""Bytes before and after the text of the modules."""
_MOST_SECTIONS, _MOST_NAMES, _MOST_BYTES = 1_000, 65_536, 1_048_576
# What release builds put into the program, as its log says it; a plain tag of the module else, never a pseudo-version.
_LINKED = re.compile(r"buildinfo\.Version=['\"]?(v?[0-9]+\.[0-9]+\.[0-9]+)(?![0-9A-Za-z.+-])")
_TAG = re.compile(r"v[0-9]+\.[0-9]+\.[0-9]+")


@dataclass(frozen=True, slots=True)
class Built:
    """Which program a file is. ``version``: as ``v1.8.0``; empty where the build did not write it down."""

    program: Program
    version: str = ""


def built(path: str) -> Built | None:
    """What the file says; None where it is no Go program of ours, or says nothing. Raises: OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _of_modules(_modules(_section(descriptor)))
    except (struct.error, ValueError):
        return None  # cut short, or no ELF file
    finally:
        os.close(descriptor)


def _of_modules(text: str) -> Built | None:
    rows = [line.split("\t") for line in text.splitlines()]
    main = next((row[1] for row in rows if row[0] == "path" and len(row) > 1), "")
    found = next(((name, program) for name, program in _MODULES if _is_in(main, name)), None)
    if found is None:
        return None
    linked = _LINKED.search(text)
    versions = [row[2] for row in rows if row[0] in ("mod", "dep") and len(row) > 2 and _is_in(row[1], found[0])]
    tags = [version for version in versions if _TAG.fullmatch(version)]
    return Built(found[1], linked[1] if linked else tags[0] if tags else "")


def _is_in(package: str, module: str) -> bool:
    return package == module or package.startswith(f"{module}/")


def _section(descriptor: int) -> bytes:
    """The section of the build information, of a 64-bit little-endian ELF file; empty where there is none."""
    header = os.pread(descriptor, 64, 0)
    if not header.startswith(b"\x7fELF\x02\x01"):
        return b""
    (table,) = struct.unpack_from("<Q", header, 0x28)
    size, count, names_in = struct.unpack_from("<HHH", header, 0x3A)
    count = min(count, _MOST_SECTIONS)
    rows = os.pread(descriptor, size * count, table)
    sections = [struct.unpack_from("<I20xQQ", rows, number * size) for number in range(count)]
    _, at, length = sections[names_in] if names_in < count else (0, 0, 0)
    names = os.pread(descriptor, min(length, _MOST_NAMES), at)
    for name, offset, length in sections:
        if names[name:].startswith(_SECTION + b"\0"):
            return os.pread(descriptor, min(length, _MOST_BYTES), offset)
    return b""


def _modules(section: bytes) -> str:
    """The text of the modules; empty where the section is of another form."""
    if not section.startswith(_MAGIC) or not section[15:16] or not section[15] & _HAS_TEXTS:
        return ""
    _, modules = list(_texts(section, _TEXTS_AT, 2))
    return modules[_SENTINEL:-_SENTINEL].decode("utf-8", "replace")


def _texts(data: bytes, at: int, count: int) -> Iterator[bytes]:
    """Texts with their length before them, as Go's uvarint."""
    for _ in range(count):
        length = shift = 0
        while True:
            (byte,) = struct.unpack_from("B", data, at)
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        yield data[at : at + length]
        at += length
