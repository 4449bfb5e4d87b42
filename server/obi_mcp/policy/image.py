"""Container image references: the distribution grammar, Docker's normal form, and which images are OBI's.

Source of fact: ``github.com/distribution/reference`` v0.6 (``ParseNormalizedNamed``), which the container runtimes use.
What it does not accept is not an image of OBI's. Host names are compared as they are written: ``GHCR.IO``, a port, or
``registry-1.docker.io`` may well lead to the same bytes, but nobody writes them without a reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from obi_mcp.policy.scope import Scope

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_HOST_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_HOST_LABEL}(?:\.{_HOST_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_REFERENCE = re.compile(
    rf"(?P<domain>{_HOST})/(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[a-f0-9]{64}|sha384:[a-f0-9]{96}|sha512:[a-f0-9]{128}))?"
)
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")
_DOCKER_HUB = "docker.io"
_DOCKER_INDEX = "index.docker.io"
_MAX_PATH = 255
_MAX_REFERENCE = 1024


@dataclass(frozen=True, slots=True)
class ImageReference:
    """An image in normal form: ``repository`` always with its registry (``docker.io/otel/ebpf-instrument``).

    ``tag`` and ``digest`` are empty where the text has none; ``latest`` is not added. ``digest`` is
    ``sha256:…`` in lower case.
    """

    repository: str
    tag: str = ""
    digest: str = ""


def parse_image(text: str) -> ImageReference:
    """The reference that a container runtime reads from ``text``.

    Raises: ValueError for what is no reference: upper case in the path, a bare 64-digit identifier, blanks, URLs, a
    digest of unknown algorithm or length, more than 1024 characters.
    """
    if len(text) > _MAX_REFERENCE or _IDENTIFIER.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is not an image reference")
    domain, rest = _split_domain(text)
    match = _REFERENCE.fullmatch(f"{domain}/{rest}")
    if match is None or len(match["path"]) > _MAX_PATH or match["domain"] != domain:
        raise ValueError(f"{text[:80]!r} is not an image reference")
    return ImageReference(f"{domain}/{match['path']}", match["tag"] or "", match["digest"] or "")


def is_obi_image(text: object, scope: Scope) -> bool:
    """Whether a container with this ``image`` runs OBI.

    The repository is one of ``scope.images``; an entry with a tag or digest of its own stands for that tag or digest
    only. With ``scope.image_digests`` the reference must name one of them. Whatever cannot be parsed, and anything
    but a string, is not OBI's.
    """
    if not isinstance(text, str):
        return False
    try:
        image = parse_image(text)
    except ValueError:
        return False
    entries = _known(scope.images).get(image.repository, ())
    if not any(entry.tag in {"", image.tag} and entry.digest in {"", image.digest} for entry in entries):
        return False
    return not scope.image_digests or image.digest in scope.image_digests


def _split_domain(text: str) -> tuple[str, str]:
    """Registry and remainder, by Docker's rules: no dot, colon or capital in the first part means Docker Hub."""
    first, slash, rest = text.partition("/")
    if not slash:
        return _DOCKER_HUB, f"library/{text}"
    if first == _DOCKER_INDEX:
        first = _DOCKER_HUB
    elif first != "localhost" and not any(sign in first for sign in ".:") and first == first.lower():
        return _DOCKER_HUB, text
    if first == _DOCKER_HUB and "/" not in rest:
        rest = f"library/{rest}"
    return first, rest


@lru_cache(maxsize=32)
def _known(images: tuple[str, ...]) -> dict[str, tuple[ImageReference, ...]]:
    """The configured images by repository. An entry that is no reference stands for no image at all."""
    table: dict[str, tuple[ImageReference, ...]] = {}
    for text in images:
        try:
            image = parse_image(text)
        except ValueError:
            continue
        table[image.repository] = (*table.get(image.repository, ()), image)
    return table
