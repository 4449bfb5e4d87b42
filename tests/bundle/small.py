"""A bundle whose image is small, so that every byte of it can be damaged in turn. Not a test."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [path for path in (str(ROOT), str(ROOT / "image")) if path not in sys.path]

from bundle.__main__ import DOCUMENTS, Made, write_bundle  # noqa: E402
from layout import Settings, write_image, write_index, write_layer  # noqa: E402

from bundle import sums  # noqa: E402

__all__ = ["Made", "make_key", "small_bundle", "small_images", "sums", "write_bundle"]

EPOCH = 1_700_000_000
DEBIAN = """Package: libssl3
Source: openssl (3.0.22-1)
Version: 3.0.22-1~deb12u2
Architecture: {architecture}
Maintainer: Debian OpenSSL Team <pkg-openssl-devel@alioth-lists.debian.net>
Description: Secure Sockets Layer toolkit
"""
PYTHON = "Metadata-Version: 2.4\nName: Ruamel_Yaml.clib\nVersion: 0.2\nLicense-Expression: MIT\n\nText: no header\n"
CRATES = """{"bomFormat": "CycloneDX", "components": [
 {"name": "asn1", "version": "0.24.1", "purl": "pkg:cargo/asn1@0.24.1", "licenses": [{"expression": "BSD-3-Clause"}]},
 {"name": "openssl", "version": "4.0.3", "purl": "pkg:generic/openssl@4.0.3?download_url=https://example.com/o"},
 {"name": "x", "version": "0.2"}
]}"""
LABELS = {
    "org.opencontainers.image.title": "obi-mcp",
    "org.opencontainers.image.version": "0.1.0",
    "org.opencontainers.image.licenses": "Apache-2.0",
}


def small_images(out: Path, architectures: tuple[str, ...] = ("amd64", "arm64"), program: Path | None = None) -> Path:
    """Layouts as ``make image`` leaves them; ``program`` is put into each as a program."""
    layouts = []
    for architecture in architectures:
        files = out / "files" / architecture
        _put(files / "var/lib/dpkg/status.d/libssl3", DEBIAN.format(architecture=architecture))
        _put(files / "usr/lib/python3/site-packages/x-0.2.dist-info/METADATA", PYTHON)
        _put(files / "usr/lib/python3/site-packages/x-0.2.dist-info/sboms/x.json", CRATES)
        _put(files / "usr/local/bin/jq", "not a program\n")
        if program is not None:
            shutil.copy(program, files / "usr/local/bin" / program.name)
        layout = out / f"linux-{architecture}"
        layer = write_layer(files, layout, title="all", epoch=EPOCH)
        settings = Settings(architecture, "65532:65532", ("/usr/local/bin/jq",), labels=LABELS)
        write_image(layout, [layer], settings, epoch=EPOCH)
        layouts.append(layout)
    write_index(out / "index", layouts, LABELS)
    return out


def small_bundle(place: Path, *, key: Path | None = None) -> Made:
    """A bundle of both platforms with one document, signed where a key is given."""
    images = small_images(place / "image")
    checkout = place / "checkout"
    for name in (*DOCUMENTS, "docs/air-gap.md", "image/chart/obi/Chart.yaml", "image/chart/obi/values.yaml"):
        _put(checkout / name, (ROOT / name).read_text(encoding="utf-8"))
    layouts = sorted(images.glob("linux-*"))
    return write_bundle(layouts, place / "bundle", key=str(key) if key else None, root=checkout)


def make_key(file: Path) -> Path:
    """A new SSH key without a passphrase; its public half stands beside it."""
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "release@example.com", "-f", str(file)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    return file


def _put(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
