"""One thing that an image holds, by the name that a vulnerability database knows it by.

Source of fact: the purl specification and its types deb, pypi, golang and generic.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

_RUNS = re.compile(r"[-_.]+")
"""What PEP 503 makes one hyphen."""

Kind = Literal["deb", "pypi", "golang", "generic"]


@dataclass(frozen=True, slots=True, order=True)
class Component:
    """``name`` and ``version`` are the kind's own. ``place`` is the file of the image that says it is there.

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
        version = quote(self.version, safe=".-_~")
        match self.kind:
            case "deb":
                upstream = f"&upstream={quote(self.source, safe='.-_~')}" if self.source else ""
                return f"pkg:deb/debian/{self.name}@{version}?arch={self.architecture}&distro=debian-12{upstream}"
            case "pypi":
                return f"pkg:pypi/{_RUNS.sub('-', self.name).lower()}@{version}"
            case "golang":
                path = "/".join(quote(part, safe=".-_~") for part in self.name.lower().split("/"))
                return f"pkg:golang/{path}@{version}"
            case "generic":
                return f"pkg:generic/{quote(self.name, safe='.-_~')}@{version}"

    @property
    def identity(self) -> str:
        """Unique in one image: the same module in two programs is two components."""
        return f"{self.purl}#{self.place}" if self.kind == "golang" else self.purl
