"""Container images written by the standard library alone: folder → layer → OCI layout → archive that loads anywhere.

No daemon and no root; the same folders give the same bytes, whoever builds, wherever, whenever. In order of use::

    layer = write_layer(folder, layout, title="kubectl 1.36.3", epoch=epoch)   # a blob in layout/blobs/sha256
    image = write_image(layout, (base, layer), Settings(...), epoch=epoch)     # config, manifest, index.json
    write_index(both, (amd64_layout, arm64_layout), annotations)               # one layout with an index of platforms
    write_archive(layout, tar, "obi-mcp:0.1.0", epoch=epoch)                   # docker-archive and OCI layout at once

``Image.digest`` is the manifest's: what a registry shows after pushing from the layout. ``read_image`` gives an Image
back from a layout that is there already. Digests are ``sha256:HEX``, sizes are bytes, times are seconds since 1970.
Sources: the OCI image specification 1.1, and the format of ``docker save``.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import tarfile
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Self

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
TITLE = "org.opencontainers.image.title"
_TOP = "index.json"
_CONTAINERD_NAME = "io.containerd.image.name"
_COMPRESSION = 9
_BLOCK = 1 << 20
_GZIP = 31  # zlib's window bits for a gzip header, which then has no time and no name in it


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer, whose compressed bytes are the blob ``digest``. ``diff_id`` is of the bytes before compression."""

    title: str
    digest: str
    size: int
    diff_id: str
    unpacked: int

    def descriptor(self) -> dict[str, Any]:
        return {
            "mediaType": LAYER_TYPE,
            "digest": self.digest,
            "size": self.size,
            "annotations": {TITLE: self.title},
        }


@dataclass(frozen=True, slots=True)
class Settings:
    """What the image says about how it runs, and about itself. ``labels`` are annotations of the manifest, too."""

    architecture: str
    user: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    directory: str = "/"

    def process(self) -> dict[str, Any]:
        """The ``config`` of the image's configuration."""
        return {
            "Cmd": list(self.command),
            "Entrypoint": list(self.entrypoint),
            "Env": [f"{name}={value}" for name, value in self.environment.items()],
            "Labels": dict(sorted(self.labels.items())),
            "User": self.user,
            "WorkingDir": self.directory,
        }


@dataclass(frozen=True, slots=True)
class Image:
    """One image of one platform in a layout. ``digest`` and ``size`` are its manifest's, ``config`` its identity to
    Docker. ``compressed`` is what a pull transfers."""

    architecture: str
    digest: str
    size: int
    config: str
    layers: tuple[Layer, ...]
    annotations: Mapping[str, str]

    @property
    def compressed(self) -> int:
        return sum(layer.size for layer in self.layers)

    def descriptor(self) -> dict[str, Any]:
        return {
            "mediaType": MANIFEST_TYPE,
            "digest": self.digest,
            "size": self.size,
            "platform": {"architecture": self.architecture, "os": "linux"},
        }


def blob_path(layout: Path, digest: str) -> Path:
    """Where a layout keeps the blob of a digest, there or not."""
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


def write_layer(
    folder: Path,
    layout: Path,
    *,
    title: str,
    epoch: int,
    modes: Mapping[str, int] | None = None,
    cache: Path | None = None,
) -> Layer:
    """Pack what is in ``folder`` as one layer of ``layout``. Everything belongs to root and is as old as ``epoch``.

    Files are 0755 when their owner may run them, else 0644; ``modes`` has the exceptions, by path without a leading
    slash. ``cache`` keeps compressed layers, so that the same is not compressed twice. Raises: ValueError for what is
    neither file, directory nor symbolic link.
    """
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    unfinished = blobs / f".{hashlib.sha256(title.encode()).hexdigest()[:16]}.tmp"
    plain = _Counter()
    _pack(folder, plain, epoch, modes or {})
    known = cache / f"{plain.digest}.zlib-{zlib.ZLIB_RUNTIME_VERSION}-{_COMPRESSION}" if cache else None
    if known is not None and known.exists():
        shutil.copyfile(known, unfinished)
    else:
        with unfinished.open("wb") as file, _Compressor(file) as stream:
            _pack(folder, stream, epoch, modes or {})
        if known is not None:
            _keep(unfinished, known)
    with unfinished.open("rb") as written:
        digest = hashlib.file_digest(written, "sha256").hexdigest()
    size = unfinished.stat().st_size
    unfinished.rename(blobs / digest)
    return Layer(title, f"sha256:{digest}", size, f"sha256:{plain.digest}", plain.size)


def write_image(layout: Path, layers: Sequence[Layer], settings: Settings, *, epoch: int) -> Image:
    """Write the configuration and manifest of an image whose layers are in ``layout`` already, and its index.json."""
    created = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    config = {
        "architecture": settings.architecture,
        "config": settings.process(),
        "created": created,
        "history": [{"created": created, "created_by": layer.title} for layer in layers],
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
    }
    config_digest, config_size = write_blob(layout, config)
    annotations = dict(sorted(settings.labels.items()))
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "digest": config_digest, "size": config_size},
        "layers": [layer.descriptor() for layer in layers],
        "annotations": annotations,
    }
    digest, size = write_blob(layout, manifest)
    image = Image(settings.architecture, digest, size, config_digest, tuple(layers), annotations)
    _write_top(layout, [image.descriptor()])
    return image


def read_image(layout: Path) -> Image:
    """The only image of a layout that ``write_image`` has written. Unpacked sizes are not kept there: they are 0."""
    top = json.loads((layout / _TOP).read_text(encoding="utf-8"))["manifests"][0]
    manifest = json.loads(blob_path(layout, top["digest"]).read_text(encoding="utf-8"))
    config = json.loads(blob_path(layout, manifest["config"]["digest"]).read_text(encoding="utf-8"))
    layers = tuple(
        Layer(layer["annotations"][TITLE], layer["digest"], layer["size"], diff_id, 0)
        for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True)
    )
    return Image(
        config["architecture"],
        top["digest"],
        top["size"],
        manifest["config"]["digest"],
        layers,
        manifest["annotations"],
    )


def write_index(layout: Path, images: Sequence[Path], annotations: Mapping[str, str]) -> str:
    """Write one layout whose top is an index of the images in other layouts, whose blobs it links; its digest."""
    (layout / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    descriptors = []
    for other in images:
        descriptors.append(read_image(other).descriptor())
        for blob in sorted((other / "blobs" / "sha256").iterdir()):
            _link(blob, layout / "blobs" / "sha256" / blob.name)
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        "manifests": descriptors,
        "annotations": dict(sorted(annotations.items())),
    }
    digest, size = write_blob(layout, index)
    _write_top(layout, [{"mediaType": INDEX_TYPE, "digest": digest, "size": size}])
    return digest


def write_archive(layout: Path, archive: Path, reference: str, *, epoch: int) -> None:
    """Write a layout with one image as one tar that is a docker-archive, too: ``docker load`` names it ``reference``.

    ``docker load``, ``podman load``, ``skopeo copy oci-archive:`` and ``docker-archive:`` read it. Pushed from a
    docker-archive it gets another manifest digest; pushed from the layout it keeps its own.
    """
    image = read_image(layout)
    # Podman and containerd take it for an OCI archive, and know no other place for the name.
    named = image.descriptor() | {"annotations": {_CONTAINERD_NAME: f"docker.io/library/{reference}"}}
    loading = [
        {
            "Config": f"blobs/sha256/{image.config.removeprefix('sha256:')}",
            "RepoTags": [reference],
            "Layers": [f"blobs/sha256/{layer.digest.removeprefix('sha256:')}" for layer in image.layers],
        }
    ]
    unfinished = archive.with_name(f".{archive.name}.tmp")
    with tarfile.open(unfinished, "w", format=tarfile.PAX_FORMAT) as tar:
        _add_bytes(tar, "manifest.json", _json(loading), epoch)
        _add_bytes(tar, _TOP, _top([named]), epoch)
        for path in _sorted_tree(layout):
            if (name := str(path.relative_to(layout))) != _TOP:
                _add_path(tar, path, name, epoch, {})
    unfinished.rename(archive)


def write_blob(layout: Path, value: Mapping[str, Any]) -> tuple[str, int]:
    """Keep a JSON document as a blob; its digest and size."""
    content = _json(value)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    path = blob_path(layout, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return digest, len(content)


class _Counter(io.RawIOBase):
    """A file to write a tar into, which keeps nothing of it but its hash and size."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._hash.update(data)
        size = memoryview(data).nbytes
        self.size += size
        return size


class _Compressor(io.RawIOBase):
    """A file to write a tar into, which goes on to ``target`` compressed."""

    def __init__(self, target: IO[bytes]) -> None:
        self._target = target
        self._deflate = zlib.compressobj(_COMPRESSION, zlib.DEFLATED, _GZIP)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._target.write(self._deflate.compress(data))
        return memoryview(data).nbytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._target.write(self._deflate.flush())


def _pack(folder: Path, stream: io.RawIOBase, epoch: int, modes: Mapping[str, int]) -> None:
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_BLOCK) as archive:
        for path in _sorted_tree(folder):
            _add_path(archive, path, str(path.relative_to(folder)), epoch, modes)


def _keep(file: Path, place: Path) -> None:
    """Copy a file to a place where others look for it, in one step."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=place.parent, delete=False) as unfinished:
        shutil.copyfile(file, unfinished.name)
    Path(unfinished.name).rename(place)


def _sorted_tree(folder: Path) -> list[Path]:
    """All that is below a folder, directories before what is in them, in an order that no file system decides."""
    found = [Path(place) / name for place, names, files in os.walk(folder) for name in (*names, *files)]
    return sorted(found, key=lambda path: str(path.relative_to(folder)))


def _add_path(archive: tarfile.TarFile, path: Path, name: str, epoch: int, modes: Mapping[str, int]) -> None:
    status = path.lstat()
    entry = tarfile.TarInfo(name)
    entry.mtime = epoch
    if stat.S_ISLNK(status.st_mode):
        entry.type, entry.mode, entry.linkname = tarfile.SYMTYPE, 0o777, os.readlink(path)
        archive.addfile(entry)
    elif stat.S_ISDIR(status.st_mode):
        entry.type, entry.mode = tarfile.DIRTYPE, modes.get(name, 0o755)
        archive.addfile(entry)
    elif stat.S_ISREG(status.st_mode):
        entry.size = status.st_size
        entry.mode = modes.get(name, 0o755 if status.st_mode & stat.S_IXUSR else 0o644)
        with path.open("rb") as content:
            archive.addfile(entry, content)
    else:
        raise ValueError(f"{path} is neither a file nor a directory nor a symbolic link")


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes, epoch: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(content), 0o644, epoch
    archive.addfile(entry, io.BytesIO(content))


def _write_top(layout: Path, manifests: list[dict[str, Any]]) -> None:
    (layout / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    (layout / _TOP).write_bytes(_top(manifests))


def _top(manifests: list[dict[str, Any]]) -> bytes:
    """The entry of a layout."""
    return _json({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests})


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _link(source: Path, target: Path) -> None:
    """A hard link where the file system has them, else a copy."""
    if target.exists():
        return
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
