"""The same sources give the same digest, wherever and whenever; a difference is explained; what is optional fits in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from compare import differences
from layout import Settings, read_image, write_image, write_layer
from parts.contents import check_program
from parts.platform import AMD64, ARM64, this_machine
from recipes.step import BuildFailed
from tests.daemon import ROOT, DockerDaemon
from tests.image.container import HARDENED, ORIGIN, PYTHON, Built, build, copy_project, run_python

EPOCH = 1_700_000_000


def layout_of(folder: Path, target: Path, *, epoch: int = EPOCH, user: str = "1:1", **modes: int) -> Path:
    layer = write_layer(folder, target, title="part", epoch=epoch, modes=modes)
    write_image(target, (layer,), Settings("amd64", user, ("/program",)), epoch=epoch)
    return target


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    (made / "inner").mkdir(parents=True)
    (made / "program").write_text("one")
    (made / "inner/link").symlink_to("../program")
    return made


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("nothing", []),
        ("content", ["layer part: program: sha256 "]),
        ("size", ["layer part: program: bytes 3 and 4", "layer part: program: sha256 "]),
        ("mode", ["layer part: program: mode 0644 and 0755"]),
        ("link", ["layer part: inner/link: link ../program and program"]),
        ("missing", ["layer part: program: only in the first"]),
        ("added", ["layer part: other: only in the second"]),
    ],
)
def test_a_difference_is_named_down_to_the_property(
    folder: Path, tmp_path: Path, change: str, expected: list[str]
) -> None:
    first = layout_of(folder, tmp_path / "first")
    other = tmp_path / "elsewhere"
    shutil.copytree(folder, other, symlinks=True)
    match change:
        case "content":
            (other / "program").write_text("two")
        case "size":
            (other / "program").write_text("four")
        case "mode":
            (other / "program").chmod(0o744)
        case "link":
            (other / "inner/link").unlink()
            (other / "inner/link").symlink_to("program")
        case "missing":
            (other / "program").unlink()
        case "added":
            (other / "other").write_text("")
    os.utime(other, (1, 1))
    found = differences(first, layout_of(other, tmp_path / "second"))
    assert len(found) == len(expected)
    for line, beginning in zip(found, expected, strict=True):
        assert line.startswith(beginning)


def test_a_difference_of_time_and_settings_is_named(folder: Path, tmp_path: Path) -> None:
    first = layout_of(folder, tmp_path / "first")
    second = layout_of(folder, tmp_path / "second", epoch=EPOCH + 1, user="2:2")
    found = differences(first, second)
    assert found[:2] == [
        "setting User: 1:1 and 2:2",
        "setting created: 2023-11-14T22:13:20Z and 2023-11-14T22:13:21Z",
    ]
    assert f"layer part: program: mtime {EPOCH} and {EPOCH + 1}" in found


@pytest.mark.parametrize(
    ("head", "platform", "fits"),
    [
        (b"\x7fELF" + bytes(14) + b"\x3e\0", AMD64, True),
        (b"\x7fELF" + bytes(14) + b"\xb7\0", ARM64, True),
        (b"\x7fELF" + bytes(14) + b"\xb7\0", AMD64, False),
        (b"#!/bin/sh\nexit 0\n\n\n\n\n", AMD64, False),
        (b"", AMD64, False),
        (None, AMD64, False),
    ],
)
def test_a_given_obi_must_be_for_the_platform(tmp_path: Path, head: bytes | None, platform: object, fits: bool) -> None:
    program = tmp_path / "obi"
    if head is not None:
        program.write_bytes(head)
    assert platform in {AMD64, ARM64}
    chosen = AMD64 if platform is AMD64 else ARM64
    if fits:
        check_program(program, chosen)
    else:
        with pytest.raises(BuildFailed, match=str(program)):
            check_program(program, chosen)


@pytest.mark.image
def test_another_folder_another_time_and_everything_anew_give_the_same_digest(built: Built, tmp_path: Path) -> None:
    project = copy_project(tmp_path / "elsewhere")
    argv = [sys.executable, str(project / "image/verify.py"), "--output", str(built.output)]
    done = subprocess.run(argv, env=os.environ | ORIGIN, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{built.digest}  the same again" in done.stdout


@pytest.mark.image
def test_a_changed_source_changes_the_digest_and_is_named(built: Built, tmp_path: Path, output: Path) -> None:
    project = copy_project(tmp_path / "elsewhere")
    with (project / "server/obi_mcp/errors.py").open("a", encoding="utf-8") as source:
        source.write("# another\n")
    again = build(output, project=project)
    assert again.digest != built.digest
    found = differences(built.layout, again.layout)
    assert {line.partition(":")[0] for line in found} == {"layer server"}
    assert any("obi_mcp/errors.py: sha256 " in line for line in found)


@pytest.mark.image
def test_obi_and_the_analysis_are_layers_of_their_own(daemon: DockerDaemon, built: Built, output: Path) -> None:
    listing = subprocess.run(
        [sys.executable, str(ROOT / "tests/sandbox/build.py"), "--json"], stdout=subprocess.PIPE, check=True
    ).stdout
    words = ("--with-obi", json.loads(listing)["programs"]["beyla"], "--with-analysis")
    larger = build(output, *words)
    plain = {layer.title: layer.digest for layer in read_image(built.layout).layers}
    layers = {layer.title: layer.digest for layer in read_image(larger.layout).layers}
    assert set(layers) - set(plain) == {"obi", "analysis"}
    assert {title: layers[title] for title in plain} == plain
    daemon.docker("load", "-i", larger.archive)
    try:
        run = ("run", "--rm", "--network=none", *HARDENED)
        doctor = daemon.docker(*run, larger.reference, "doctor", check=False)
        assert "/usr/local/bin/obi" in doctor.stdout
        code = "import duckdb; print(duckdb.sql('select 6 * 7').fetchall()[0][0])"
        assert daemon.docker(*run, PYTHON, larger.reference, "-I", "-c", code).stdout == "42\n"
        imports = (Path(__file__).parent / "imports.py").read_text(encoding="utf-8")
        found = run_python(daemon, larger.reference, imports)
        assert found["missing"] == {"click.testing": "pdb"}  # which tests command lines of others
        assert found["imported"] > 800
    finally:
        daemon.docker("load", "-i", built.archive)  # the name is the plain one's again


@pytest.mark.image
def test_a_binary_for_another_platform_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "obi"
    program.write_bytes(b"\x7fELF" + bytes(40))
    argv = [sys.executable, str(ROOT / "image/build.py"), "--output", str(tmp_path / "out"), "--with-obi", str(program)]
    argv += ["--platform", this_machine().architecture]
    done = subprocess.run(argv, env=os.environ | ORIGIN, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{program} is no program for linux/{this_machine().architecture}" in done.stderr
