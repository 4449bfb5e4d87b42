"""The files of a chart, from a directory or an archive, and their digest.

Two readers of one archive need not agree: helm takes ``./templates/x`` for a template and splits names at backslashes,
Go and Python differ in extension headers and damaged ones. INVARIANT: so helm is never given an archive of a stranger,
but the files that were read here (``ChartStore.pin`` and ``fetched``); packaged charts inside are unpacked, too.
"""

from __future__ import annotations

import hashlib
import io
import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tarfile import TarInfo

MAX_BYTES = 10 * 1024 * 1024
MAX_FILES = 2000
_MAX_DEPTH = 5


def read_chart(path: Path) -> dict[str, bytes]:
    """Every file of the chart by its path below the chart's top (``templates/daemonset.yaml``), sorted.

    A packaged chart in ``charts/`` is there as its files: ``charts/x.tgz`` as ``charts/x/…``.
    Raises: ValueError for what is neither directory nor ``.tgz``, for links and devices, and for more than 10 MiB.
    """
    if path.is_dir():
        return _unpacked(_directory(path), str(path), 0)
    if path.is_file() and path.suffix == ".tgz":
        return _unpacked(read_archive(path.read_bytes(), path.name), path.name, 0)
    raise ValueError(f"{path} is neither a directory nor a .tgz archive")


def write_chart(files: Mapping[str, bytes], top: Path) -> None:
    """The files as a directory. Raises: ValueError, OSError."""
    for name, data in files.items():
        place = top / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)


def _unpacked(files: dict[str, bytes], name: str, depth: int) -> dict[str, bytes]:
    """The files with those of each packaged chart in ``charts/`` in its place."""
    made: dict[str, bytes] = {}
    for path, data in files.items():
        folder, slash, inner = path.rpartition("/")
        below = {path: data}
        packaged = slash and inner.endswith(".tgz") and (folder == "charts" or folder.endswith("/charts"))
        if packaged and depth < _MAX_DEPTH:
            # One that cannot be read stays as it is, and is a finding of the scan.
            with suppress(ValueError):
                chart = _unpacked(read_archive(data, path), path, depth + 1)
                below = {f"{path.removesuffix('.tgz')}/{at}": content for at, content in chart.items()}
        if twice := below.keys() & made.keys() | below.keys() & (files.keys() - {path}):
            raise ValueError(f"{name} holds {min(twice)!r} twice")
        made.update(below)
    _bounded(name, len(made), sum(map(len, made.values())))
    return dict(sorted(made.items()))


def read_archive(data: bytes, name: str) -> dict[str, bytes]:
    """The files of a packaged chart; the archive's one top directory is dropped.

    Raises: ValueError.
    """
    import gzip
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
                path = _path_of(member)
                if path is None or path in files:
                    what = "twice" if path else "which is no plain file of a chart"
                    raise ValueError(f"{name} holds {member.name!r}, {what}")
                size += member.size
                _bounded(name, len(files), size)
                content = archive.extractfile(member)
                files[path] = content.read() if content else b""
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{name} is no packaged chart: {error}") from None
    return dict(sorted(files.items()))


def _path_of(member: TarInfo) -> str | None:
    """Where a file of an archive lies below the top directory; None for anything but a plain file, plainly named."""
    top, _, path = member.name.partition("/")
    words = [top, *path.split("/")]
    plain = member.isreg() and not member.issparse() and "\\" not in member.name and member.name.isprintable()
    return path if plain and not {"", ".", ".."}.intersection(words) else None


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
