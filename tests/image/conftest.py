"""One build, one sandbox and one daemon for all tests of the image."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.daemon import DockerDaemon, obstacle
from tests.image.container import Built, build
from tests.sandbox.sandbox import Sandbox


@pytest.fixture(scope="session")
def built() -> Iterator[Built]:
    """The image of the sources as they are."""
    with tempfile.TemporaryDirectory(prefix="obi-mcp-image-") as folder:  # pytest would keep half a gigabyte
        yield build(Path(folder))


@pytest.fixture
def output() -> Iterator[Path]:
    """A folder for what a test builds."""
    with tempfile.TemporaryDirectory(prefix="obi-mcp-image-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """A cluster of this session's own."""
    with Sandbox.up(f"image-{os.getpid()}") as running:
        yield running


@pytest.fixture(scope="session")
def daemon(sandbox: Sandbox, built: Built) -> Iterator[DockerDaemon]:
    """A daemon in the cluster's network namespace, where a container on the host's network reaches the API server."""
    if (why := obstacle()) is not None:
        pytest.skip(why)
    with DockerDaemon.up("image", netns=sandbox.netns) as running:
        running.load(built.archive)
        yield running


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder that the container's user may write, at the same place inside and outside."""
    folder = tmp_path / "shared"
    folder.mkdir(mode=0o700)
    os.chown(folder, 65532, 65532)
    return folder
