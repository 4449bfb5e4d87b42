"""Checksums, the signature and the one archive of a folder; ``load.sh`` is the other side of this.

``SHA256SUMS`` names every file but itself, its signature and its own checksum; ``SHA256SUMS.sha256`` holds that
checksum (and the signature's), so that damage of the list is told from damage of what it lists.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

SUMS = "SHA256SUMS"
SIGNATURE = "SHA256SUMS.sig"
OWN_SUM = "SHA256SUMS.sha256"
NAMESPACE = "obi-mcp-bundle"
"""What the signature is for, so that one of another purpose does not pass (``ssh-keygen -Y``, PROTOCOL.sshsig)."""

_BLOCK = 1 << 20


class SigningFailed(Exception):
    """The key cannot sign; the text says why."""


def seal(folder: Path, key: str | None) -> None:
    """Write the checksums of all files of a folder, and sign them where a key is given. Raises: SigningFailed."""
    for name in (SUMS, SIGNATURE, OWN_SUM):
        (folder / name).unlink(missing_ok=True)
    lines = [_line(path, str(path.relative_to(folder))) for path in files_of(folder)]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")
    if key:
        _sign(folder / SUMS, key)
    listed = [folder / SUMS, *([folder / SIGNATURE] if key else [])]
    (folder / OWN_SUM).write_text("".join(_line(path, path.name) for path in listed), encoding="utf-8")


def files_of(folder: Path) -> list[Path]:
    """Every file of a folder, in an order that no file system decides. Raises: ValueError for anything else in it."""
    found = sorted(Path(place) / name for place, _, names in os.walk(folder) for name in names)
    for path in found:
        if path.is_symlink() or not path.is_file():
            raise ValueError(f"{path} is not a plain file")
    return sorted(found, key=lambda path: str(path.relative_to(folder)))


def sha256(path: Path) -> str:
    """The checksum of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def pack(folder: Path, archive: Path, epoch: int) -> None:
    """One tar of a folder under its own name: everything is root's, and as old as ``epoch``."""
    unfinished = archive.with_name(f".{archive.name}.tmp")
    with tarfile.open(unfinished, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted([folder, *folder.rglob("*")], key=str):
            entry = tar.gettarinfo(path, arcname=str(path.relative_to(folder.parent)))
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mtime = epoch
            entry.mode = 0o755 if entry.isdir() or path.suffix == ".sh" else 0o644
            if entry.isdir():
                tar.addfile(entry)
            else:
                # A blob and its hard link are two files: nothing in the archive points elsewhere.
                entry.type, entry.linkname, entry.size = tarfile.REGTYPE, "", path.stat().st_size
                with path.open("rb") as content:
                    tar.addfile(entry, content)
    unfinished.rename(archive)


def _line(path: Path, name: str) -> str:
    return f"{sha256(path)}  {name}\n"


def _sign(sums: Path, key: str) -> None:
    program = shutil.which("ssh-keygen")
    if program is None:
        raise SigningFailed("signing needs ssh-keygen: install openssh-client 8.2 or newer")
    argv = [program, "-Y", "sign", "-q", "-f", key, "-n", NAMESPACE, str(sums)]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SigningFailed(f"ssh-keygen cannot sign with {key}: {done.stderr.strip() or done.returncode}")
