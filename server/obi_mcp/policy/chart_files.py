"""The files of a chart, from a directory or an archive, as helm's loader sees them, and their digest."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

MAX_BYTES = 10 * 1024 * 1024
MAX_FILES = 2000


def read_chart(path: Path) -> dict[str, bytes]:
    """Every file of the chart by its path below the chart's top (``templates/daemonset.yaml``), sorted.

    Raises: ValueError for what is neither directory nor ``.tgz``, for links and devices, and for more than 10 MiB.
    """
    if path.is_dir():
        return _directory(path)
    if path.is_file() and path.suffix == ".tgz":
        return read_archive(path.read_bytes(), path.name)
    raise ValueError(f"{path} is neither a directory nor a .tgz archive")


def read_archive(data: bytes, name: str) -> dict[str, bytes]:
    """The files of a packaged chart; the archive's one top directory is dropped.

    Raises: ValueError.
    """
    import tarfile

    files: dict[str, bytes] = {}
    size = 0
    try:
        # Read ahead of tarfile, which would follow a gzip bomb as far as it goes.
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            unpacked = stream.read(MAX_BYTES + 1)
        if len(unpacked) > MAX_BYTES:
            raise ValueError(f"{name} is larger than {MAX_BYTES} bytes")
        with tarfile.open(fileobj=io.BytesIO(unpacked)) as archive:
            for member in archive:
                if member.isdir():
                    continue
                parts = PurePosixPath(member.name.replace("\\", "/")).parts
                if not member.isreg() or member.issparse() or len(parts) < 2 or parts[0] == "/" or ".." in parts:
                    raise ValueError(f"{name} holds {member.name!r}, which is no plain file of a chart")
                size += member.size
                _bounded(name, len(files), size)
                content = archive.extractfile(member)
                files["/".join(parts[1:])] = content.read() if content else b""
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{name} is no packaged chart: {error}") from None
    return dict(sorted(files.items()))


def digest_of(files: Mapping[str, bytes]) -> str:
    """``sha256:…`` over names, lengths and contents in order; the same for a directory and its archive."""
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(f"{len(name)}:{name}:{len(files[name])}:".encode())
        total.update(files[name])
    return f"sha256:{total.hexdigest()}"


def _directory(top: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    size = 0
    for directory, folders, names in os.walk(top):
        for name in [*folders, *names]:
            path = Path(directory, name)
            # helm follows links, to wherever they lead: /etc/shadow as a template would be rendered.
            if path.is_symlink():
                raise ValueError(f"{path} is a symbolic link; charts hold plain files")
        for name in names:
            path = Path(directory, name)
            if not path.is_file():
                raise ValueError(f"{path} is no plain file")
            files[path.relative_to(top).as_posix()] = path.read_bytes()
            size += len(files[path.relative_to(top).as_posix()])
            _bounded(str(top), len(files), size)
    return dict(sorted(files.items()))


def _bounded(name: str, count: int, size: int) -> None:
    if count > MAX_FILES or size > MAX_BYTES:
        raise ValueError(f"{name} holds more than {MAX_FILES} files or {MAX_BYTES} bytes")
