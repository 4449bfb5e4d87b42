"""A chart of a repository that the operator configured: which address may be asked, and helm's words that fetch it.

helm compares nothing that it downloads with the index, and takes whatever address an index names. So the entry of the
index is read here, its host held to the configured ones, and the archive's digest compared. helm's reader of an index
and ours may differ (doubled keys, other cases, aliases): INVARIANT: helm pulls by an index with that one entry alone.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urljoin, urlsplit

from obi_mcp.policy.chart_index import IndexEntry

MAX_ARCHIVE_BYTES = 10 * 1024 * 1024
REPOSITORIES = "repositories.json"
REGISTRIES = "registries.json"
# Two readers take anything else for two addresses: \\ before @ ends a host for some and not for others.
_PLAIN = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+")
_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class RemoteChart:
    """A chart of a configured repository, not fetched yet. ``url``: ``https://…`` (an index) or ``oci://…``.

    It must be pulled into a private directory, and ``ChartStore.fetched`` makes a chart of the archive.
    ``hosts``: those that the index may name besides its own. ``pinned``: the archive's hex sha256 as the operator wants
    it; empty: any.
    """

    repository: str
    name: str
    version: str
    url: str
    hosts: tuple[str, ...] = ()
    pinned: str = ""

    @property
    def registry(self) -> bool:
        """Whether it lies in an OCI registry, which has no index."""
        return self.url.startswith("oci://")

    def configuration(self) -> Mapping[str, str]:
        """The files, by name, that helm reads of this repository and no other. JSON is YAML."""
        parts = urlsplit(self.url)
        user, password = parts.username or "", parts.password or ""
        if self.registry:
            login = base64.b64encode(f"{user}:{password}".encode()).decode()
            return {REGISTRIES: json.dumps({"auths": {_host(parts): {"auth": login}} if user else {}})}
        entry = {"name": self.repository, "url": _bare(parts), "username": user, "password": password}
        return {REPOSITORIES: json.dumps({"apiVersion": "", "repositories": [entry]})}

    def update(self, folder: Path) -> tuple[str, ...]:
        """helm's arguments (without the program) that put ``REPOSITORY-index.yaml`` into the folder."""
        return ("repo", "update", self.repository, *self._places(folder))

    def pull(self, folder: Path) -> tuple[str, ...]:
        """helm's arguments (without the program) that put ``NAME-VERSION.tgz`` into the folder."""
        parts = urlsplit(self.url)
        chart = f"{self.repository}/{self.name}"
        plain: tuple[str, ...] = ()
        if self.registry:
            chart = f"{_bare(parts).rstrip('/')}/{self.name}"
            plain = ("--plain-http",) if _is_loopback(parts.hostname or "") else ()
        version = f"--version={self.version}"
        return ("pull", chart, version, f"--destination={folder}", *plain, *self._places(folder))

    def refused_index(self, entry: IndexEntry | None) -> str | None:
        """Why the archive that the index names may not be fetched, or None."""
        if entry is None or not entry.urls:
            return f"repository {self.repository} has no {self.name} {self.version}"
        own = urlsplit(self.url)
        archive = urlsplit(self._archive(entry))
        if not _PLAIN.fullmatch(entry.urls[0]) or archive.username is not None:
            return f"the index of repository {self.repository} has {self.name} {self.version} at no plain address"
        if _origin(archive) == _origin(own):
            return None
        if archive.scheme != "https" or archive.hostname not in self.hosts:
            return (
                f"the index of repository {self.repository} has {self.name} {self.version} at "
                f"{archive.scheme}://{_host(archive)}, which is neither the repository's own host nor in "
                "scope.chart_hosts"
            )
        return None

    def index(self, entry: IndexEntry) -> str:
        """An index with that one entry, at the very address that was judged. JSON is YAML."""
        made = {"apiVersion": "v2", "name": self.name, "version": self.version, "urls": [self._archive(entry)]}
        return json.dumps({"apiVersion": "v1", "entries": {self.name: [made]}})

    def _archive(self, entry: IndexEntry) -> str:
        return urljoin(f"{_bare(urlsplit(self.url)).rstrip('/')}/", entry.urls[0])

    def refused_archive(self, digest: str, entry: IndexEntry | None) -> str | None:
        """Why an archive of that hex sha256 is not the one that was meant, or None."""
        if self.pinned and digest != self.pinned:
            return (
                f"{self.repository}/{self.name} {self.version} is sha256:{digest}, not sha256:{self.pinned} as pinned"
            )
        if entry is not None and entry.digest and digest != entry.digest:
            return (
                f"{self.repository}/{self.name} {self.version} is sha256:{digest}, and the index says "
                f"sha256:{entry.digest}"
            )
        return None

    def _places(self, folder: Path) -> tuple[str, ...]:
        places = (f"--repository-cache={folder}", f"--content-cache={folder}/content")
        if self.registry:
            return (*places, f"--registry-config={folder / REGISTRIES}")
        return (*places, f"--repository-config={folder / REPOSITORIES}")


def refused_address(url: str) -> str | None:
    """Why a configured address may not be asked, a whole sentence, or None: only TLS, save on this host."""
    parts = urlsplit(url)
    if parts.scheme not in {"https", "oci", "http"} or not parts.hostname:
        return f"{_bare(parts)!r} is no address of a chart repository: https:// or oci:// with a host"
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        return f"{_bare(parts)!r} is not encrypted: http:// is only for this host's own loopback"
    return None


def _bare(parts: SplitResult) -> str:
    """The address without user and password."""
    return parts._replace(netloc=_host(parts)).geturl()


def _host(parts: SplitResult) -> str:
    """The host with its port, as it was written."""
    return parts.netloc.rpartition("@")[2]


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
