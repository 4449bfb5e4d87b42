"""The Dockerfile: as hadolint wants it, and built for real without a registry or network, to the same image."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tests.daemon import ROOT, DockerDaemon
from tests.image.container import ORIGIN, Built, copy_project

DOCKERFILE = ROOT / "Dockerfile"
HADOLINT = Path(sys.executable).parent / "hadolint"
BASE, RESULT = "obi-mcp-base:test", "obi-mcp-dockerfile:test"
# What Docker itself makes in a container.
_BY_DOCKER = ("dev", "proc", "sys", "run", ".dockerenv", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab")


def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run([str(HADOLINT), "--no-color", str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_base_is_pinned_by_digest() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    images = [line.partition("=")[2] for line in text.splitlines() if line.startswith("ARG ") and "_IMAGE=" in line]
    assert len(images) == 2
    for image in images:
        assert len(image.partition("@sha256:")[2]) == 64


@pytest.mark.image
def test_built_without_a_network_it_is_the_same_image(daemon: DockerDaemon, built: Built, output: Path) -> None:
    context = copy_project(output / "context")
    parts = context / "build/image/parts" / built.parts.name
    parts.parent.mkdir(parents=True)
    shutil.copytree(built.parts, parts, symlinks=True)
    _import_base(daemon, built.parts / "base")
    arguments = {
        "BASE_IMAGE": BASE,
        "PARTS": "given",
        "VERSION": built.reference.partition(":")[2],
        "REVISION": ORIGIN["REVISION"],
        "SOURCE": ORIGIN["SOURCE"],
    }
    words = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    argv = [str(daemon.bin / "docker"), "build", "--network=none", "-t", RESULT, *words]
    environment = {**daemon.environment, "DOCKER_BUILDKIT": "1"}
    done = subprocess.run([*argv, str(context)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert _settings(daemon, RESULT) == _settings(daemon, built.reference)
    made, expected = (_files(daemon, image, output) for image in (RESULT, built.reference))
    assert {name: facts for name, facts in made.items() if expected.get(name) != facts} == {}
    assert set(expected) - set(made) == set()


def _import_base(daemon: DockerDaemon, folder: Path) -> None:
    """As docs/image.md says: a tar of the base's folder becomes an image."""
    packing = subprocess.Popen(
        ["tar", "-c", "--owner=0", "--group=0", "--numeric-owner", "-C", str(folder), "."], stdout=subprocess.PIPE
    )
    assert packing.stdout is not None
    with packing.stdout:
        daemon.docker("import", "-", BASE, stdin=packing.stdout)
    assert packing.wait() == 0


def _settings(daemon: DockerDaemon, image: str) -> dict[str, Any]:
    config = json.loads(daemon.docker("image", "inspect", "--format={{json .Config}}", image).stdout)
    names = ("User", "Entrypoint", "Cmd", "Labels", "WorkingDir", "Healthcheck", "ExposedPorts", "Volumes")
    return {name: config.get(name) for name in names} | {"Env": sorted(config["Env"])}


def _files(daemon: DockerDaemon, image: str, place: Path) -> dict[str, tuple[object, ...]]:
    """Every file of an image: kind, mode, owner, link, content."""
    container = daemon.docker("create", image).stdout.strip()
    archive = place / "export.tar"
    daemon.docker("export", "-o", archive, container)
    daemon.docker("rm", container)
    found: dict[str, tuple[object, ...]] = {}
    with tarfile.open(archive) as tar:
        for entry in tar:
            name = entry.name.rstrip("/")
            if name.startswith(_BY_DOCKER):
                continue
            content = tar.extractfile(entry) if entry.isreg() else None
            digest = hashlib.sha256(content.read()).hexdigest() if content is not None else ""
            found[name] = (entry.type, entry.mode, entry.uid, entry.gid, entry.linkname, digest)
    return found
