"""What is in an image, read from the layers that are shipped rather than from what they were made of.

Debian packages by ``var/lib/dpkg/status.d``, Python packages by their ``METADATA``, what is linked into them (crates,
OpenSSL) by the documents that wheels bring (PEP 770), Go programs by the modules that they name themselves, and what
says nothing of itself (jq) by its file.
"""

from __future__ import annotations

import email.parser
import email.policy
import gzip
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layout import Image, blob_path, read_image
from recipes import jq

from bundle.component import Component, Kind
from bundle.go_build import Build, modules_of, read_build

_STATUS = "var/lib/dpkg/status.d/"
_ELF = b"\x7fELF"
_LINKED = re.compile(r"\.dist-info/sboms/[^/]+\.json$")
_LINKED_PURL = re.compile(r"pkg:(?P<kind>cargo|generic)/")
_GENERIC: Mapping[str, Mapping[str, str]] = {"usr/local/bin/jq": {"jq": jq.VERSION, **jq.LINKED}}
"""Programs of ours that are neither Debian's nor Go's, with what is linked into them, as this checkout builds them."""
_OWN_MODULES = "obi-mcp/"
"""Main modules around a program's module, without a version: image/tools."""


@dataclass(frozen=True, slots=True)
class Contents:
    """One image and its components, sorted."""

    image: Image
    created: str
    components: tuple[Component, ...]

    @property
    def version(self) -> str:
        return self.image.annotations["org.opencontainers.image.version"]

    @property
    def title(self) -> str:
        return self.image.annotations["org.opencontainers.image.title"]


def read_contents(layout: Path, created: str) -> Contents:
    """The image of a layout with all that it says it holds. Raises: ValueError for an image that holds nothing."""
    image = read_image(layout)
    found = [one for layer in image.layers for one in _in_layer(blob_path(layout, layer.digest))]
    if not found:
        raise ValueError(f"{layout} says nothing of what it holds")
    return Contents(image, created, tuple(sorted({one.identity: one for one in sorted(found)}.values())))


def _in_layer(blob: Path) -> Iterator[Component]:
    with gzip.open(blob) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        for entry in archive:
            name = entry.name.removeprefix("./")
            if not entry.isfile():
                continue
            content = archive.extractfile(entry)
            assert content is not None
            if name.startswith(_STATUS) and not name.endswith(".md5sums"):
                yield _debian(content.read().decode(), name)
            elif name.endswith(".dist-info/METADATA"):
                yield _python(content.read().decode(), name)
            elif _LINKED.search(name):
                yield from _linked(json.load(content), name)
            elif name in _GENERIC:
                yield from (Component("generic", *one, place=name) for one in _GENERIC[name].items())
            elif entry.mode & 0o111 and content.read(4) == _ELF:
                yield from _go(_ELF + content.read(), name)


def _debian(text: str, place: str) -> Component:
    fields = email.parser.Parser(policy=email.policy.compat32).parsestr(text, headersonly=True)
    name, version = str(fields["Package"]), str(fields["Version"])
    source = str(fields.get("Source", ""))
    source_name, _, source_version = source.partition(" ")
    origin = f"{source_name or name}@{source_version.strip('()') or version}" if source else ""
    return Component(
        "deb",
        name,
        version,
        place=place,
        architecture=str(fields["Architecture"]),
        source=origin,
        supplier=str(fields.get("Maintainer", "")),
    )


def _python(text: str, place: str) -> Component:
    fields = email.parser.Parser(policy=email.policy.compat32).parsestr(text, headersonly=True)
    return Component(
        "pypi",
        str(fields["Name"]),
        str(fields["Version"]),
        place=place,
        # PEP 639: an SPDX expression by definition, unlike the older field License.
        licence=str(fields.get("License-Expression", "")),
    )


def _linked(document: Mapping[str, Any], place: str) -> Iterator[Component]:
    """What a wheel's maker says is compiled into it: CycloneDX, with package URLs."""
    for one in document.get("components", ()):
        if found := _LINKED_PURL.match(one.get("purl", "")):
            kind: Kind = "cargo" if found["kind"] == "cargo" else "generic"
            licence = next((str(each["expression"]) for each in one.get("licenses", ()) if "expression" in each), "")
            yield Component(kind, one["name"], one.get("version", ""), place=place, licence=licence)


def _go(program: bytes, place: str) -> Iterator[Component]:
    build = read_build(program)
    return iter(()) if build is None else of_build(build, place)


def of_build(build: Build, place: str) -> Iterator[Component]:
    """Go's library and every module of a program, but for main modules of ours that only wrap it."""
    yield Component("golang", "stdlib", build.go, place=place, licence="BSD-3-Clause")
    for module in modules_of(build):
        if not module.path.startswith(_OWN_MODULES):
            version = module.version if module.version != "(devel)" else ""  # built from a checkout
            yield Component("golang", module.path, version, place=place)
