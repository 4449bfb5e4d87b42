"""What the image says about itself and how it runs. The Dockerfile says the same; a test compares."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

from layout import Settings
from recipes.step import BuildFailed

from parts.platform import Platform

USER = "65532:65532"
ENTRYPOINT = ("/usr/local/bin/obi-mcp",)
COMMAND = ("serve",)
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin",
    # The root file system is read-only: what is written goes to the tmpfs.
    "HOME": "/tmp",
    "TMPDIR": "/tmp",
    "HELM_CACHE_HOME": "/tmp/.helm/cache",
    "HELM_CONFIG_HOME": "/tmp/.helm/config",
    "HELM_DATA_HOME": "/tmp/.helm/data",
    "KUBECACHEDIR": "/tmp/.kube/cache",
    "KUBECONFIG": "/kube/config",
    "LANG": "C.UTF-8",
    # Errors name a container's ways out where no engine left its mark: in a pod.
    "OBI_MCP_CONTAINER": "1",
    "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
    # Where obi-mcp/policy-….json lies, compiled when the image was built.
    "XDG_CACHE_HOME": "/var/cache",
    "XDG_CONFIG_HOME": "/etc",
    # The server's private directory goes there, too, and not to the container's /dev/shm.
    "XDG_RUNTIME_DIR": "/tmp",
}
LICENSES = "Apache-2.0 AND BSD-3-Clause AND GPL-3.0-or-later AND LGPL-2.1-or-later AND MIT AND MPL-2.0 AND PSF-2.0"
_LABEL = "org.opencontainers.image"
# What the image is made of; a change elsewhere does not make it another.
_SOURCES = ("image", "policy", "server", "pyproject.toml", "README.md", "LICENSE", "requirements.lock")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an image comes from. ``epoch`` is the commit's time, in seconds since 1970."""

    version: str
    revision: str
    epoch: int
    source: str

    def labels(self) -> dict[str, str]:
        """By the names of the OCI image specification."""
        return {
            f"{_LABEL}.title": "obi-mcp",
            f"{_LABEL}.description": "MCP server that runs OBI through kubectl, helm and obi, behind a policy",
            f"{_LABEL}.licenses": LICENSES,
            f"{_LABEL}.revision": self.revision,
            f"{_LABEL}.version": self.version,
            **({f"{_LABEL}.source": self.source} if self.source else {}),
        }

    def settings(self, platform: Platform) -> Settings:
        return Settings(platform.architecture, USER, ENTRYPOINT, COMMAND, ENVIRONMENT, self.labels())


def origin(project: Path) -> Origin:
    """From pyproject.toml and version control; SOURCE_DATE_EPOCH, REVISION and SOURCE replace what git says.

    Raises: BuildFailed where neither says it.
    """
    text = (project / "pyproject.toml").read_text(encoding="utf-8")
    version = str(tomllib.loads(text)["project"]["version"])
    epoch = os.environ.get("SOURCE_DATE_EPOCH") or _git(project, "log", "-1", "--format=%ct")
    revision = os.environ.get("REVISION") or _git(project, "rev-parse", "HEAD")
    if epoch is None or revision is None or not epoch.isdigit():
        raise BuildFailed(f"{project} is no git checkout: set SOURCE_DATE_EPOCH (seconds since 1970) and REVISION")
    if not os.environ.get("REVISION") and _git(project, "status", "--porcelain", "--", *_SOURCES):
        revision += "-dirty"
    return Origin(version, revision, int(epoch), os.environ.get("SOURCE", "") or _source(project))


def _source(project: Path) -> str:
    """The address of the repository without credentials; empty where git knows none on the web."""
    address = _git(project, "config", "--get", "remote.origin.url") or ""
    found = re.fullmatch(r"(https://)(?:[^/@]*@)?(.+?)(?:\.git)?/?", address)
    return found[1] + found[2] if found else ""


def _git(project: Path, *words: str) -> str | None:
    argv = ["git", "-C", str(project), *words]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
