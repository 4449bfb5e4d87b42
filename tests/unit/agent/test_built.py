"""What a program's file says of itself: the module that it was built from, and in which version."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from obi_mcp.agent.built import Built, built

OBI = "go.opentelemetry.io/obi"
BEYLA = "github.com/grafana/beyla"
LINKED = "build\t-ldflags=\"-X 'go.opentelemetry.io/obi/pkg/buildinfo.Version=v0.12.0' -X main.x=v9.9.9\""


def program(modules: str, *, flags: int = 2) -> bytes:
    """An ELF file with nothing but the section that Go puts there, and the names of its sections."""
    text = b"\x00" * 16 + modules.encode() + b"\x00" * 16
    written = b"".join(_uvarint(len(each)) + each for each in (b"go1.25.1", text))
    section = b"\xff Go buildinf:" + bytes((8, flags)) + b"\x00" * 16 + written
    names = b"\x00.go.buildinfo\x00.shstrtab\x00"
    at = 64
    rows = [(0, 0, 0), (1, at, len(section)), (15, at + len(section), len(names))]
    table = b"".join(struct.pack("<IIQQQQIIQQ", name, 1, 0, 0, offset, size, 0, 0, 1, 0) for name, offset, size in rows)
    header = b"\x7fELF\x02\x01".ljust(0x28, b"\x00")
    header += struct.pack("<Q", at + len(section) + len(names)).ljust(18, b"\x00") + struct.pack("<HHH", 64, 3, 2)
    return header + section + names + table


def _uvarint(number: int) -> bytes:
    return bytes((number & 0x7F | 0x80, number >> 7)) if number > 0x7F else bytes((number,))


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        (f"path\t{BEYLA}/cmd/beyla\nmod\t{BEYLA}\tv1.8.0\th1:x=", Built("beyla", "v1.8.0")),
        (f"path\t{BEYLA}/v3/cmd/beyla\nmod\t{BEYLA}/v3\tv3.1.0\ndep\t{OBI}\tv0.12.0", Built("beyla", "v3.1.0")),
        (f"path\t{OBI}/cmd/ebpf-instrument\nmod\t{OBI}\t(devel)\n{LINKED}", Built("obi", "v0.12.0")),
        (f"path\tbuild.test/agent\nmod\tbuild.test\nbuild\tvcs=git\ndep\t{OBI}\tv0.12.0", None),
        (f"path\t{OBI}/cmd/obi\nmod\t{OBI}\tv0.12.1-0.20260101000000-0123456789ab", Built("obi")),
        (f"path\t{OBI}/cmd/obi\nmod\t{OBI}\tv0.12.0+dirty", Built("obi")),
        (f"path\t{OBI}x/cmd/obi\nmod\t{OBI}x\tv1.0.0", None),
        ("path\tk8s.io/kubernetes/cmd/kubectl\nmod\tk8s.io/kubernetes\tv1.36.3", None),
    ],
)
def test_a_go_program_says_which_it_is(tmp_path: Path, modules: str, expected: Built | None) -> None:
    file = tmp_path / "program"
    file.write_bytes(program(modules))
    assert built(str(file)) == expected


def test_a_file_of_another_form_says_nothing(tmp_path: Path) -> None:
    whole = program(f"path\t{OBI}/cmd/obi\nmod\t{OBI}\tv0.12.0")
    file = tmp_path / "program"
    for text in (b"", b"#!/bin/sh\n", b"\x7fELF\x01\x01" + whole[6:], program("path\t" + OBI, flags=0), whole[:64]):
        file.write_bytes(text)
        assert built(str(file)) is None
    for length in range(64, len(whole), 7):  # a download that broke off
        file.write_bytes(whole[:length])
        assert built(str(file)) in (None, Built("obi", "v0.12.0"), Built("obi"))
