"""One thing that an image holds, by the name that a vulnerability database knows it by.

Source of fact: the purl specification and its types deb, pypi, golang, cargo and generic.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

_UNQUOTED = ".-_~:"
_RUNS = re.compile(r"[-_.]+")
"""What PEP 503 makes one hyphen."""

Kind = Literal["deb", "pypi", "golang", "cargo", "generic"]


@dataclass(frozen=True, slots=True, order=True)
class Component:
    """``name`` and ``version`` are the kind's own, the version empty for a program that does not know it. ``place`` is
    the file of the image that says it is there.

    ``licence`` is an SPDX expression, empty where the package does not declare one. ``architecture`` and ``source``
    (name and version of the source package) are Debian's.
    """

    kind: Kind
    name: str
    version: str
    place: str = ""
    licence: str = ""
    architecture: str = ""
    source: str = ""
    supplier: str = ""

    @property
    def purl(self) -> str:
        """The package URL."""
        version = "@" + quote(self.version, safe=_UNQUOTED) if self.version else ""
        match self.kind:
            case "deb":
                upstream = f"&upstream={quote(self.source, safe=_UNQUOTED)}" if self.source else ""
                return f"pkg:deb/debian/{self.name}{version}?arch={self.architecture}&distro=debian-12{upstream}"
            case "pypi":
                return f"pkg:pypi/{_RUNS.sub('-', self.name).lower()}{version}"
            case "golang":
                return f"pkg:golang/{quote(self.name.lower(), safe=_UNQUOTED + '/')}{version}"
            case "cargo" | "generic":
                return f"pkg:{self.kind}/{quote(self.name, safe=_UNQUOTED)}{version}"

    @property
    def identity(self) -> str:
        """Unique in one image: the same module or crate in two programs is two components."""
        return f"{self.purl}#{self.place}" if self.kind in {"golang", "cargo"} else self.purl
