"""``load.sh`` on the other side: whatever is not as it was made stops it, and is named, before anything is loaded."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.bundle.small import Made, make_key, small_bundle, sums

LISTS = {"SHA256SUMS", "SHA256SUMS.sha256", "SHA256SUMS.sig"}


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_key(tmp_path_factory.mktemp("key") / "release")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, key: Path) -> Made:
    return small_bundle(tmp_path_factory.mktemp("signed"), key=key)


@pytest.fixture
def bundle(made: Made, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(made.folder, tmp_path / "b", copy_function=shutil.copy))


def load(folder: Path, *words: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(folder / "load.sh"), *words],
        env={"PATH": path or os.environ["PATH"], "HOME": "/nonexistent"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )


def test_what_was_made_passes_with_and_without_its_key(made: Made, key: Path) -> None:
    plain = load(made.folder, "--check")
    assert (plain.returncode, plain.stdout) == (0, (made.folder / "digests.txt").read_text())
    assert "the signature is not verified" in plain.stderr
    signed = load(made.folder, "--check", "--key", f"{key}.pub")
    assert (signed.returncode, 'Good "obi-mcp-bundle" signature' in signed.stderr) == (0, True)


def flip(file: Path) -> None:
    """One bit of one byte in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_a_damaged_byte_of_any_file_stops_it_and_is_named(made: Made, bundle: Path, key: Path) -> None:
    for file in sorted(path for path in made.folder.rglob("*") if path.is_file()):
        name = str(file.relative_to(made.folder))
        flip(bundle / name)
        done = load(bundle, "--check", "--key", f"{key}.pub")
        assert done.returncode != 0, name
        assert name in done.stderr, (name, done.stderr)
        assert "as they were made" not in done.stderr
        shutil.copy(file, bundle / name)
    assert load(bundle, "--check", "--key", f"{key}.pub").returncode == 0


def test_every_kind_of_byte_of_the_lists_is_guarded(bundle: Path) -> None:
    for name in sorted(LISTS):
        whole = (bundle / name).read_bytes()
        for place in range(0, len(whole), 1 + len(whole) // 8):
            damaged = bytearray(whole)
            damaged[place] ^= 1
            (bundle / name).write_bytes(damaged)
            done = load(bundle, "--check")
            assert (done.returncode, name in done.stderr) == (1, True), (place, done.stderr)
        (bundle / name).write_bytes(whole)


def test_a_damaged_script_does_not_say_that_all_is_well(bundle: Path) -> None:
    script = bundle / "load.sh"
    whole = script.read_bytes()
    for place in range(0, len(whole), len(whole) // 24):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        script.write_bytes(damaged)
        done = load(bundle, "--check")
        assert "load.sh" in done.stderr, (place, done.stderr)
        assert done.returncode != 0 or "nothing was loaded" in done.stderr, place


def _replace(name: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    def changing(bundle: Path) -> None:
        file = bundle / name
        file.write_text(change(file.read_text()))

    return changing


def _link(name: str) -> Callable[[Path], None]:
    def linking(bundle: Path) -> None:
        (bundle / name).rename(bundle.parent / "elsewhere")
        (bundle / name).symlink_to(bundle.parent / "elsewhere")

    return linking


def _folder(name: str) -> Callable[[Path], None]:
    def making(bundle: Path) -> None:
        (bundle / name).unlink()
        (bundle / name).mkdir()

    return making


def _reseal(bundle: Path) -> None:
    """What somebody does who can count: the lists are right again, and only the signature tells."""
    sums.seal(bundle, None)


def _unsigned(bundle: Path) -> None:
    (bundle / "README.md").write_text("another")
    _reseal(bundle)


def _signed_by_another(bundle: Path) -> None:
    sums.seal(bundle, str(make_key(bundle.parent / "another")))


def _signed_for_something_else(bundle: Path) -> None:
    key = make_key(bundle.parent / "mine")
    (bundle / "SHA256SUMS.sig").unlink()
    argv = ["ssh-keygen", "-Y", "sign", "-q", "-n", "file", "-f", str(key), "SHA256SUMS"]
    subprocess.run(argv, cwd=bundle, check=True, stdin=subprocess.DEVNULL)
    shutil.copy(f"{key}.pub", bundle.parent / "trusted.pub")
    lines = [f"{sums.sha256(bundle / name)}  {name}\n" for name in ("SHA256SUMS", "SHA256SUMS.sig")]
    (bundle / "SHA256SUMS.sha256").write_text("".join(lines))


HARMS: list[tuple[str, Callable[[Path], object], str]] = [
    # what, what is done to the folder, what is named
    ("an added file", lambda b: (b / "oci" / "new").write_text("x"), "oci/new"),
    ("an added hidden file", lambda b: (b / ".new").write_text("x"), ".new"),
    ("a file with a line end in its name", lambda b: (b / "a\nREADME.md").write_text("x"), "a"),
    ("a file named like a list", lambda b: (b / "SHA256SUMSxsig").write_text("x"), "SHA256SUMSxsig"),
    ("a list in another folder", lambda b: (b / "oci" / "SHA256SUMS").write_text("x"), "oci/SHA256SUMS"),
    ("a missing file", lambda b: (b / "images.txt").unlink(), "images.txt"),
    ("an empty file", lambda b: (b / "images.txt").write_text(""), "images.txt"),
    ("a missing list", lambda b: (b / "SHA256SUMS").unlink(), "SHA256SUMS"),
    ("a missing sum of the list", lambda b: (b / "SHA256SUMS.sha256").unlink(), "SHA256SUMS.sha256"),
    ("a missing signature", lambda b: (b / "SHA256SUMS.sig").unlink(), "SHA256SUMS.sig"),
    ("a link for a file", _link("images.txt"), "images.txt"),
    ("a link for a folder", _link("oci"), "oci"),
    ("a link for the list", _link("SHA256SUMS"), "SHA256SUMS"),
    ("a link for the signature", _link("SHA256SUMS.sig"), "SHA256SUMS.sig"),
    ("a link that leads nowhere", lambda b: (b / "x").symlink_to("/nowhere"), "x"),
    ("a pipe", lambda b: os.mkfifo(b / "pipe"), "pipe"),
    ("a folder for a file", _folder("images.txt"), "images.txt"),
    ("two files changed for each other", lambda b: os.rename(b / "images.txt", b / "digests.txt"), "images.txt"),
    ("a longer list", _replace("SHA256SUMS", lambda text: text + text.splitlines()[0] + "\n"), "SHA256SUMS"),
    ("a shorter list", _replace("SHA256SUMS", lambda text: text.partition("\n")[2]), "SHA256SUMS"),
    ("a cut list", _replace("SHA256SUMS", lambda text: text[:-1]), "SHA256SUMS"),
]


@pytest.mark.parametrize(("what", "harm", "named"), HARMS, ids=[row[0] for row in HARMS])
def test_a_harmed_folder_stops_it_and_the_file_is_named(
    what: str, harm: Callable[[Path], object], named: str, bundle: Path
) -> None:
    harm(bundle)
    done = load(bundle, "--check")
    assert done.returncode == 1
    assert f"load.sh: {named}" in done.stderr
    assert "nothing was loaded" in done.stderr


FORGERIES: list[tuple[str, Callable[[Path], object], str]] = [
    ("made again without a signature", _unsigned, "is missing, and a key was given"),
    ("signed by another", _signed_by_another, "does not verify with"),
]


@pytest.mark.parametrize(("what", "forge", "said"), FORGERIES, ids=[row[0] for row in FORGERIES])
def test_a_folder_made_again_passes_only_without_a_key(
    what: str, forge: Callable[[Path], object], said: str, bundle: Path, key: Path
) -> None:
    forge(bundle)
    assert load(bundle, "--check").returncode == 0
    done = load(bundle, "--check", "--key", f"{key}.pub")
    assert (done.returncode, "load.sh: SHA256SUMS.sig" in done.stderr, said in done.stderr) == (1, True, True)


def test_a_signature_for_something_else_is_none(bundle: Path) -> None:
    _signed_for_something_else(bundle)
    assert load(bundle, "--check").returncode == 0
    done = load(bundle, "--check", "--key", str(bundle.parent / "trusted.pub"))
    assert (done.returncode, "SHA256SUMS.sig: does not verify" in done.stderr) == (1, True)


SIGNERS: list[tuple[str, str, list[str], int]] = [
    ("the one signer", 'release@example.com namespaces="obi-mcp-bundle" {key}\n', [], 0),
    ("by name", "release@example.com {key}\n", ["--signer", "release@example.com"], 0),
    ("another name", "release@example.com {key}\n", ["--signer", "somebody@example.com"], 1),
    ("another use", 'release@example.com namespaces="git" {key}\n', [], 1),
    ("nobody", "# none\n", [], 1),
]


@pytest.mark.parametrize(("what", "text", "words", "code"), SIGNERS, ids=[row[0] for row in SIGNERS])
def test_a_file_of_allowed_signers_says_who_may(
    what: str, text: str, words: list[str], code: int, made: Made, key: Path, tmp_path: Path
) -> None:
    allowed = tmp_path / "allowed"
    allowed.write_text(text.format(key=Path(f"{key}.pub").read_text().strip()))
    done = load(made.folder, "--check", "--key", str(allowed), *words)
    assert (done.returncode, "SHA256SUMS.sig" in done.stderr) == (code, code == 1), done.stderr


USAGE: list[tuple[list[str], str]] = [
    ([], "say what to do"),
    (["--unknown"], "there is no option --unknown"),
    (["--registry"], "--registry needs a value"),
    (["--docker", "--podman"], "do not go together"),
    (["--check", "--key", "/nowhere"], "cannot be read"),
]


@pytest.mark.parametrize(("words", "said"), USAGE, ids=[" ".join(row[0]) or "nothing" for row in USAGE])
def test_wrong_usage_is_exit_two(words: list[str], said: str, made: Made) -> None:
    done = load(made.folder, *words)
    assert (done.returncode, said in done.stderr) == (2, True)


@pytest.fixture
def bare_path(tmp_path: Path) -> str:
    """A PATH with what load.sh says that it needs, and nothing else."""
    place = tmp_path / "bin"
    place.mkdir()
    for name in ("find", "sort", "sed", "grep", "wc", "sha256sum", "cat", "dirname", "uniq", "uname", "rm", "mktemp"):
        (place / name).symlink_to(shutil.which(name) or "/nowhere")
    return str(place)


@pytest.mark.parametrize("program", ["docker", "podman", "skopeo", "ssh-keygen"])
def test_a_program_that_is_missing_is_named(program: str, made: Made, bare_path: str, key: Path) -> None:
    words = {"skopeo": ["--registry", "127.0.0.1:1"], "ssh-keygen": ["--check", "--key", f"{key}.pub"]}
    done = load(made.folder, *words.get(program, [f"--{program}"]), path=bare_path)
    assert (done.returncode, program in done.stderr) == (2, True)


def test_help_is_the_head_of_the_script(made: Made) -> None:
    done = load(made.folder, "--help")
    assert done.returncode == 0
    assert re.search(r"^  ./load.sh --check ", done.stdout, re.MULTILINE)
    assert "set -eu" not in done.stdout
