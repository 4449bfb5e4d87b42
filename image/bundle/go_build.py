"""What a Go program says of its own modules, read without running it and without Go.

Source of fact: ``debug/buildinfo`` of Go 1.18 and later (the section ``.go.buildinfo`` with both strings inline), and
``runtime/debug.BuildInfo``, whose text form has a line for each module. ELF of 64 bits, little endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_MAGIC = b"\xff Go buildinf:"
_INLINE = 2
_HEADER = 32
_SENTINEL = 16
_SECTION = ".go.buildinfo"


@dataclass(frozen=True, slots=True)
class Module:
    """One module as it was linked: after a ``replace``, what it was replaced with."""

    path: str
    version: str


@dataclass(frozen=True, slots=True)
class Build:
    """``go`` is the toolchain's version without ``go``; ``main`` has the version ``(devel)`` in a plain checkout."""

    go: str
    main: Module | None
    modules: tuple[Module, ...]


def read_build(program: bytes) -> Build | None:
    """None for what is no Go program. Raises: ValueError for one whose build information cannot be read."""
    found = _section(program, _SECTION)
    if found is None:
        return None
    if not found.startswith(_MAGIC) or len(found) < _HEADER or not found[15] & _INLINE:
        raise ValueError("the program's build information is older than Go 1.18")
    version, rest = _string(found[_HEADER:])
    text, _ = _string(rest)
    return _read_text(version.decode(), text[_SENTINEL:-_SENTINEL].decode())


def _read_text(version: str, text: str) -> Build:
    main: Module | None = None
    modules: list[Module] = []
    for line in text.splitlines():
        word, *fields = line.split("\t")
        if word == "mod" and len(fields) >= 2:
            main = Module(fields[0], fields[1])
        elif word == "dep" and len(fields) >= 2:
            modules.append(Module(fields[0], fields[1]))
        elif word == "=>" and len(fields) >= 2:
            # A folder of the build has no version; the module that it stands for has.
            local = fields[0].startswith((".", "/"))
            modules[-1] = Module(modules[-1].path, modules[-1].version) if local else Module(fields[0], fields[1])
    return Build(version.removeprefix("go").split(" ")[0], main, tuple(modules))


def _string(data: bytes) -> tuple[bytes, bytes]:
    """A length as an unsigned varint, that many bytes, and what is behind them."""
    length = shift = used = 0
    for byte in data:
        length |= (byte & 0x7F) << shift
        shift += 7
        used += 1
        if not byte & 0x80:
            break
    return data[used : used + length], data[used + length :]


def _section(program: bytes, name: str) -> bytes | None:
    """The content of a section of an ELF file."""
    if program[:6] != b"\x7fELF\x02\x01":
        return None
    offset, size, count, names = (
        *struct.unpack_from("<Q", program, 0x28),
        *struct.unpack_from("<HHH", program, 0x3A),
    )
    if not offset or not count:
        return None
    headers = [struct.unpack_from("<IIQQQQ", program, offset + number * size) for number in range(count)]
    table = headers[names][4]
    for label, _, _, _, start, length in headers:
        end = program.index(b"\0", table + label)
        if program[table + label : end] == name.encode():
            return program[start : start + length]
    return None


def modules_of(build: Build) -> Iterator[Module]:
    """Every module, the main one first."""
    if build.main is not None:
        yield build.main
    yield from build.modules
