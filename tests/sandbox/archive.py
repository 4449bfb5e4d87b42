"""Container images made from one static program each, in the archive format that `docker save` writes."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from dataclasses import dataclass
from pathlib import Path

OBI_IMAGE = "ghcr.io/open-telemetry/opentelemetry-ebpf-instrumentation/ebpf-instrument:v0.11.0"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Image:
    """An image that holds ``program`` as ``/name`` and nothing else, like OBI's own; ``arguments`` are its default."""

    reference: str
    program: Path
    name: str
    arguments: tuple[str, ...] = ()


def write(path: Path, images: tuple[Image, ...]) -> None:
    """Write one archive with all images. The same programs give the same bytes."""
    manifest = []
    written: set[str] = set()
    with tarfile.open(path, "w") as whole:
        for image in images:
            layer = _layer(image)
            identity = hashlib.sha256(layer).hexdigest()
            settings = json.dumps(_settings(image, identity), sort_keys=True).encode()
            config = f"{hashlib.sha256(settings).hexdigest()}.json"
            manifest.append({"Config": config, "RepoTags": [image.reference], "Layers": [f"{identity}/layer.tar"]})
            for name, content in ((f"{identity}/layer.tar", layer), (config, settings)):
                if name not in written:
                    written.add(name)
                    _add(whole, name, content, 0o644)
        _add(whole, "manifest.json", json.dumps(manifest).encode(), 0o644)


def _layer(image: Image) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        _add(layer, image.name, image.program.read_bytes(), 0o755)
    return buffer.getvalue()


def _settings(image: Image, layer: str) -> dict[str, object]:
    process: dict[str, object] = {"Entrypoint": [f"/{image.name}"]}
    if image.arguments:
        process["Cmd"] = list(image.arguments)
    return {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": process,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]},
    }


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = mode
    archive.addfile(entry, io.BytesIO(content))
