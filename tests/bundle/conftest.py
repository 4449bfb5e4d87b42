"""One bundle of the real image, one sandbox and one empty daemon for all tests that need them."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.bundle.small import Made, make_key, write_bundle
from tests.daemon import DockerDaemon, obstacle
from tests.image.container import Built, build
from tests.sandbox.sandbox import Sandbox


@dataclass(frozen=True, slots=True)
class Carried:
    """What arrived: the bundle unpacked from its archive, and the public key that came by another way."""

    built: Built
    made: Made
    folder: Path
    key: Path

    @property
    def reference(self) -> str:
        """The name that the image loads under."""
        return self.built.reference


@pytest.fixture(scope="session")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Carried:
    """This machine's image, bundled, signed, packed and unpacked."""
    place = tmp_path_factory.mktemp("carried")
    built = build(place / "image")
    key = make_key(place / "release")
    made = write_bundle([built.layout], place / "bundle", key=str(key))
    with tarfile.open(made.archive) as archive:
        archive.extractall(place / "unpacked", filter="data")
    return Carried(built, made, place / "unpacked" / made.folder.name, Path(f"{key}.pub"))


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """A cluster of this session's own."""
    with Sandbox.up(f"bundle-{os.getpid()}") as running:
        yield running


@pytest.fixture(scope="session")
def daemon(sandbox: Sandbox) -> Iterator[DockerDaemon]:
    """An empty daemon in the cluster's network namespace, from which no way leads out of this machine."""
    if (why := obstacle()) is not None:
        pytest.skip(why)
    with DockerDaemon.up("bundle", netns=sandbox.netns) as running:
        yield running


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder that the container's user may write, at the same place inside and outside."""
    folder = tmp_path / "shared"
    folder.mkdir(mode=0o700)
    os.chown(folder, 65532, 65532)
    return folder
