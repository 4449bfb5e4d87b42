"""Which file each program is, and which versions may run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from obi_mcp import config
from obi_mcp.config import Settings
from obi_mcp.errors import ProgramMissing
from obi_mcp.process.programs import Program, Programs, check_version, find_programs, read_version
from obi_mcp.process.runner import shipped_versions


def program(folder: Path, name: str, *, mode: int = 0o755) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text("#!/bin/sh\n")
    file.chmod(mode)
    return file


def find(configured: Path, *, path: str = "") -> Programs:
    settings = Settings(programs=config.Programs(path=(str(configured),)))
    return find_programs(settings, {"PATH": path}, python="/nowhere/bin/python")


def test_configured_directories_come_before_path(tmp_path: Path) -> None:
    ours, theirs = program(tmp_path / "ours", "kubectl"), program(tmp_path / "theirs", "kubectl")
    other = program(tmp_path / "theirs", "helm")
    found = find(ours.parent, path=str(theirs.parent))
    assert (found.get("kubectl").path, found.get("helm").path) == (str(ours), str(other))
    assert found.searched[:1] == (str(ours.parent),) and found.searched[1] == "/nowhere/bin"


def test_a_link_is_followed_once_and_for_all(tmp_path: Path) -> None:
    real = program(tmp_path / "real", "busybox")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "grep").symlink_to(real)
    assert find(tmp_path / "bin").get("grep") == Program("grep", str(real))


def test_what_cannot_be_run_is_not_found(tmp_path: Path) -> None:
    program(tmp_path / "bin", "kubectl", mode=0o644)
    (tmp_path / "bin" / "helm").mkdir()
    found = find(tmp_path / "bin")
    with pytest.raises(ProgramMissing, match="kubectl is not installed in any of") as caught:
        found.get("kubectl")
    assert caught.value.hint == "install kubectl, or add its directory to programs.path"
    assert {"kubectl", "helm"} <= set(found.missing())


@pytest.mark.parametrize("name", ["obi", "ebpf-instrument", "beyla"])
def test_obi_is_found_under_any_of_its_names(tmp_path: Path, name: str) -> None:
    file = program(tmp_path / "bin", name)
    assert find(tmp_path / "bin").get("obi").path == str(file)


def test_a_program_that_is_gone_says_so(tmp_path: Path) -> None:
    file = program(tmp_path / "bin", "kubectl")
    found = Program("kubectl", str(file))
    before = found.identity()
    os.utime(file, (1, 1))
    assert found.identity() != before
    file.unlink()
    with pytest.raises(ProgramMissing, match="no longer at"):
        found.identity()


@pytest.mark.parametrize(
    ("name", "printed", "version"),
    [
        ("kubectl", b'{\n  "clientVersion": {\n    "major": "1",\n    "gitVersion": "v1.36.3"\n  }\n}', (1, 36, 3)),
        ("kubectl", b'{"clientVersion":{"gitVersion":"v1.32.4-dispatcher"}}', (1, 32, 4)),
        ("helm", b"v4.3.1", (4, 3, 1)),
        ("jq", b"jq-1.8.2\n", (1, 8, 2)),
        ("jq", b"jq-1.6\n", (1, 6)),
    ],
)
def test_versions_are_read_from_what_the_programs_print(name: str, printed: bytes, version: tuple[int, ...]) -> None:
    assert read_version(name, printed) == version


def test_a_program_that_does_not_say_its_version_is_not_used() -> None:
    with pytest.raises(ProgramMissing, match="does not say its version"):
        read_version("kubectl", b"hello")


@pytest.mark.parametrize(
    ("name", "version", "described", "refused"),
    [
        ("kubectl", (1, 36, 3), "1.36.3", None),
        ("kubectl", (1, 36, 9), "1.36.3", None),
        ("kubectl", (1, 32, 4), "1.36.3", "is 1.32.4, and the policy's grammar describes 1.36.3"),
        ("kubectl", (2, 36, 3), "1.36.3", "is 2.36.3"),
        ("helm", (3, 19, 0), "4.3.1", "is 3.19.0"),
        ("jq", (1, 6), None, "1.7 is the oldest"),
        ("jq", (1, 7), None, None),
        ("jq", (1, 8, 2), "1.7.1", None),
        ("grep", (3, 8), None, None),
    ],
)
def test_only_the_version_that_the_grammar_describes_runs(
    name: str, version: tuple[int, ...], described: str | None, refused: str | None
) -> None:
    if refused is None:
        check_version(Program(name, "/x"), version, described)
        return
    with pytest.raises(ProgramMissing, match=refused) as caught:
        check_version(Program(name, "/x"), version, described)
    assert caught.value.hint and "programs.path" in caught.value.hint


def test_the_shipped_grammars_say_which_versions_they_describe() -> None:
    assert all(version.count(".") == 2 for version in shipped_versions().values())
    assert set(shipped_versions()) == {"kubectl", "helm"}
