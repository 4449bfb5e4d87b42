"""Two layouts of one image, and what makes their digests differ: which layer, which file, which of its properties."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import layout

_SHOWN = 20


def differences(first: Path, second: Path) -> list[str]:
    """One line for each difference, none when the digests are the same."""
    one, other = layout.read_image(first), layout.read_image(second)
    if one.digest == other.digest:
        return []
    found = list(_of_settings(_config(first, one), _config(second, other)))
    layers = {layer.title: layer for layer in one.layers}
    others = {layer.title: layer for layer in other.layers}
    for title in dict.fromkeys((*layers, *others)):
        if title not in layers or title not in others:
            found.append(f"layer {title}: only in {'the second' if title not in layers else 'the first'}")
        elif layers[title].diff_id != others[title].diff_id:
            of_files = list(_of_layers(first, layers[title].digest, second, others[title].digest))
            found += [f"layer {title}: {line}" for line in of_files[:_SHOWN]]
            if len(of_files) > _SHOWN:
                found.append(f"layer {title}: … {len(of_files) - _SHOWN} more")
        elif layers[title].digest != others[title].digest:
            found.append(f"layer {title}: the same files, compressed by another zlib")
    return found or [f"the manifests differ in their annotations: {one.annotations} and {other.annotations}"]


def _config(place: Path, image: layout.Image) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(layout.blob_path(place, image.config).read_text(encoding="utf-8"))
    return content


def _of_settings(one: dict[str, Any], other: dict[str, Any]) -> Iterator[str]:
    first, second = _flat(one), _flat(other)
    for name in sorted({*first, *second}):
        if first.get(name) != second.get(name):
            yield f"setting {name}: {first.get(name)} and {second.get(name)}"


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    process = dict(config["config"])
    labels = {f"Labels {name}": value for name, value in (process.pop("Labels", None) or {}).items()}
    return {**process, **labels, "created": config["created"]}


def _of_layers(first: Path, one: str, second: Path, other: str) -> Iterator[str]:
    files, others = _files(layout.blob_path(first, one)), _files(layout.blob_path(second, other))
    for name in sorted({*files, *others}):
        if name not in files or name not in others:
            yield f"{name}: only in {'the second' if name not in files else 'the first'}"
            continue
        for what in files[name]:
            if files[name][what] != others[name][what]:
                yield f"{name}: {what} {files[name][what]} and {others[name][what]}"
    if list(files) != list(others) and set(files) == set(others):
        yield "the same files in another order"


def _files(blob: Path) -> dict[str, dict[str, str]]:
    """Every entry of a layer with all that its digest depends on."""
    found = {}
    with gzip.open(blob) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        for entry in archive:
            content = archive.extractfile(entry) if entry.isreg() else None
            found[entry.name] = {
                "type": entry.type.decode(),
                "mode": f"{entry.mode:04o}",
                "owner": f"{entry.uid}:{entry.gid}",
                "mtime": str(entry.mtime),
                "link": entry.linkname,
                "bytes": str(entry.size),
                "sha256": hashlib.sha256(content.read()).hexdigest() if content is not None else "",
            }
    return found
