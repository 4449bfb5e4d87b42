"""The platforms that images are built for, by the names that each tool gives them."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from recipes.step import BuildFailed


@dataclass(frozen=True, slots=True)
class Platform:
    """One platform. ``architecture`` is Debian's, Go's and OCI's name, ``machine`` the kernel's and Python's."""

    architecture: str
    machine: str
    triplet: str
    loader: str
    """The dynamic loader below ``/usr``, which programs ask for as ``/lib…``."""
    loader_link: str | None
    """A link at the root that is there on this platform alone."""

    @property
    def name(self) -> str:
        """The folder of its layout."""
        return f"linux-{self.architecture}"

    @property
    def native(self) -> bool:
        """Whether its programs run on this machine."""
        return platform.machine() == self.machine


AMD64 = Platform("amd64", "x86_64", "x86_64-linux-gnu", "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "lib64")
ARM64 = Platform("arm64", "aarch64", "aarch64-linux-gnu", "lib/aarch64-linux-gnu/ld-linux-aarch64.so.1", None)
PLATFORMS = {one.architecture: one for one in (AMD64, ARM64)}


def this_machine() -> Platform:
    """The platform whose programs run here. Raises: BuildFailed on any other machine."""
    for one in PLATFORMS.values():
        if one.native:
            return one
    raise BuildFailed(f"images are built on {' and '.join(one.machine for one in PLATFORMS.values())} alone")
