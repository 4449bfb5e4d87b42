"""The image under test: how it is built, and the command line that users are told to run it with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layout import read_image
from parts.platform import this_machine
from tests.daemon import ROOT, DockerDaemon

# What docs/image.md tells users, but for the network and mounts, which differ from place to place.
HARDENED = (
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--user=65532:65532",
    "--ipc=none",
    "--pids-limit=256",
    "--memory=512m",
    "--tmpfs=/tmp:rw,noexec,nosuid,nodev,size=64m,mode=1777",
)
PYTHON = "--entrypoint=/usr/bin/python3.11"
# The same for every folder that the sources lie in.
ORIGIN = {"SOURCE_DATE_EPOCH": "1700000000", "REVISION": "0123456789abcdef", "SOURCE": "https://example.com/obi-mcp"}


@dataclass(frozen=True, slots=True)
class Built:
    """An image that was built, and its folders."""

    output: Path
    project: Path = ROOT

    @property
    def layout(self) -> Path:
        return self.output / this_machine().name

    @property
    def parts(self) -> Path:
        return self.output / "parts" / this_machine().name

    @property
    def archive(self) -> Path:
        return next(self.output.glob("obi-mcp-*.tar"))

    @property
    def digest(self) -> str:
        return read_image(self.layout).digest

    @property
    def reference(self) -> str:
        """The name that it loads under."""
        return self.archive.name.replace("obi-mcp-", "obi-mcp:").rpartition("-")[0]


def build(output: Path, *words: str | Path, project: Path = ROOT) -> Built:
    """Build this machine's image from the sources in ``project``."""
    argv = [sys.executable, project / "image/build.py", "--output", output, "--platform", this_machine().architecture]
    done = subprocess.run(
        [*map(str, argv), *map(str, words)], env=os.environ | ORIGIN, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return Built(output, project)


def copy_project(target: Path) -> Path:
    """The sources that an image is built from, in another folder."""
    for name in ("image", "policy", "server"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for pattern in ("*.lock", "*.md", "*file", "pyproject.toml", "LICENSE", ".gitignore", ".dockerignore"):
        for file in ROOT.glob(pattern):
            shutil.copy2(file, target / file.name)
    return target


def run_python(daemon: DockerDaemon, reference: str, code: str, *flags: str) -> Any:
    """What a program for the image's own Python prints as JSON in its last line, run as the server would be."""
    done = daemon.docker(
        "run", "--rm", "--network=none", *HARDENED, *flags, PYTHON, reference, "-I", "-c", code, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
