"""Which Debian packages go into the base: read from the machine's own sources, pinned, and missed by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from parts import debian
from parts.base import ALL_PACKAGES
from parts.platform import AMD64, ARM64, PLATFORMS
from recipes.step import BuildFailed, Steps
from tests.daemon import ROOT

LOCK = ROOT / "image" / "debian.lock"
PACKAGE = debian.Package("amd64", "libc6", "2.36-9", "ab" * 32)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("deb http://mirror.test/debian bookworm main\n", ["deb http://mirror.test/debian bookworm main"]),
        (
            "deb [arch=amd64 signed-by=/k.gpg] http://mirror.test/debian bookworm-updates main contrib\n",
            ["deb [signed-by=/k.gpg] http://mirror.test/debian bookworm-updates main"],
        ),
        ("# deb http://mirror.test/debian bookworm main\ndeb-src http://mirror.test/debian bookworm main\n", []),
        ("deb http://mirror.test/debian trixie main\ndeb http://mirror.test/other bookworm other\n", []),
        (
            "Types: deb deb-src\n# a comment\nURIs: http://mirror.test/debian\nSuites: bookworm bookworm-backports\n"
            "Components: main\nArchitectures: amd64\nSigned-By: /usr/share/keyrings/k.gpg\n",
            ["deb [signed-by=/usr/share/keyrings/k.gpg] http://mirror.test/debian bookworm main"],
        ),
        ("Types: deb\nURIs: http://mirror.test/x\nSuites: bookworm\nComponents: other\n", []),
    ],
)
def test_sources_of_debian_12_are_found_in_both_formats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, lines: list[str]
) -> None:
    listing = tmp_path / "sources.list"
    listing.write_text(text)
    monkeypatch.setenv(debian.SOURCES_VARIABLE, str(listing))
    if lines:
        assert debian.sources() == lines
    else:
        with pytest.raises(BuildFailed, match=debian.SOURCES_VARIABLE):
            debian.sources()


def test_the_lock_has_every_package_of_every_platform_and_reads_back(tmp_path: Path) -> None:
    packages = [one for platform in PLATFORMS.values() for one in debian.read_lock(LOCK, platform, ALL_PACKAGES)]
    assert len(packages) == 2 * len(ALL_PACKAGES)
    assert all(len(one.sha256) == 64 for one in packages)
    debian.write_lock(tmp_path / "lock", reversed(packages))
    assert (tmp_path / "lock").read_text(encoding="utf-8") == LOCK.read_text(encoding="utf-8")


def test_a_package_that_the_lock_lacks_is_named(tmp_path: Path) -> None:
    debian.write_lock(tmp_path / "lock", [PACKAGE])
    assert debian.read_lock(tmp_path / "lock", AMD64, ["libc6"]) == (PACKAGE,)
    with pytest.raises(BuildFailed, match="lacks arm64 libc6: run `make image-lock`"):
        debian.read_lock(tmp_path / "lock", ARM64, ["libc6"])


def apt_that(downloads: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> debian.Apt:
    """An apt whose ``apt-get`` is a shell script that does this when it is to download."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "apt-get").write_text(f'#!/bin/sh\ncase "$*" in *download*) {downloads};; esac\n')
    (programs / "dpkg-deb").write_text("#!/bin/sh\n")
    for program in programs.iterdir():
        program.chmod(0o755)
    listing = tmp_path / "sources.list"
    listing.write_text("deb http://mirror.test/debian bookworm main\n")
    monkeypatch.setenv(debian.SOURCES_VARIABLE, str(listing))
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    return debian.apt(tmp_path / "apt", AMD64, Steps("base", tmp_path / "log"))


def test_a_package_that_the_mirror_has_no_more_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "E: Version '2.36-9' for 'libc6' was not found"
    apt = apt_that(f'echo "{said}"; exit 100', tmp_path, monkeypatch)
    with pytest.raises(BuildFailed) as failure:
        apt.fetch([PACKAGE], tmp_path / "debs")
    assert said in str(failure.value)
    assert "run `make image-lock`, look at its diff, and build again" in str(failure.value)


def test_a_download_with_another_hash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apt = apt_that("echo x > libc6.deb", tmp_path, monkeypatch)
    with pytest.raises(BuildFailed, match="which is not in debian"):
        apt.fetch([PACKAGE], tmp_path / "debs")
    assert list((tmp_path / "debs").glob("*.deb")) == []
