"""Where a CHART operand leads: a bare name in the chart store, or ``REPO/NAME`` of a configured repository.

``./obi`` in the working directory would win over the store, a URL would be fetched, a path read. So the operand is a
name and nothing else, and the command gets the absolute path of the chart that was judged, known by its digest.
INVARIANT: that path is a private copy (``ChartStore.pin``): what is scanned and judged is what helm reads.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from obi_mcp.errors import InvalidDocument
from obi_mcp.policy.chart_files import digest_of, read_chart, write_chart
from obi_mcp.policy.chart_guard import guarded
from obi_mcp.policy.chart_index import IndexEntry
from obi_mcp.policy.chart_remote import MAX_ARCHIVE_BYTES, RemoteChart, refused_address
from obi_mcp.policy.chart_scan import scan_files
from obi_mcp.policy.model import Violation
from obi_mcp.policy.shipped import shipped_charts

if TYPE_CHECKING:
    from obi_mcp.policy.scope import Scope

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_VERSION = re.compile(r"v?[0-9]+\.[0-9]+\.[0-9]+(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?")
_METADATA_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of the store. ``path`` is absolute: a directory, or a ``.tgz``. ``name`` is that of its Chart.yaml."""

    path: Path
    name: str
    version: str
    digest: str
    app_version: str = ""


class ChartStore:
    """The charts that may be named: the operator's directories first, then the ones that ship with the server."""

    def __init__(self, directories: Iterable[Path], scope: Scope) -> None:
        self._directories = tuple(directories)
        self._scope = scope

    @classmethod
    def of(cls, chart_store: str | None, scope: Scope) -> ChartStore:
        """The store of the setting ``programs.chart_store``, with the built-in one behind it."""
        own = (Path(chart_store),) if chart_store else ()
        return cls((*own, shipped_charts()), scope)

    def resolve(self, name: str, version: str = "") -> Chart | RemoteChart:
        """The chart that a command means by CHART and ``--version``.

        Raises: ValueError, a whole sentence, for paths, URLs, unknown names and versions, and unreadable charts.
        """
        if "/" in name:
            return self._remote(name, version)
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no chart name; {self._known()}")
        found = [chart for directory in self._directories for chart in _named(directory, name)]
        if not found:
            raise ValueError(f"there is no chart {name!r} in the chart store; {self._known()}")
        if not version:
            return found[0]
        for chart in found:
            if version in (chart.version, f"v{chart.version}"):
                return chart
        versions = ", ".join(chart.version for chart in found)
        raise ValueError(f"chart {name} is not there in version {version!r}, but in {versions}")

    def scan(self, chart: Chart) -> tuple[Violation, ...]:
        """Why this chart may not be used: nothing for one that the operator lists in ``charts_trusted``."""
        if chart.name in self._scope.charts_trusted:
            return ()
        return tuple(scan_files(read_chart(chart.path)))

    def unchanged(self, chart: Chart) -> bool:
        """Whether the files are still those that were judged."""
        try:
            return digest_of(read_chart(chart.path)) == chart.digest
        except (ValueError, OSError):
            return False

    def pin(self, chart: Chart, folder: Path) -> Chart:
        """A copy of the chart in a private folder, which nobody changes while it is judged and used, and in which the
        text that it runs as a template is guarded. Its digest is that of the copy.

        Raises: ValueError where the chart is no longer the one that was resolved, or cannot be guarded; OSError.
        """
        if chart.path.is_file():
            _archive(chart.path)
        files = read_chart(chart.path)
        if digest_of(files) != chart.digest:
            raise ValueError(f"the chart {chart.name} changed while it was read; try again")
        if chart.name not in self._scope.charts_trusted:
            files = guarded(files)
        pinned = replace(chart, path=folder / "chart" / chart.name, digest=digest_of(files))
        write_chart(files, pinned.path)
        return pinned

    def fetched(self, remote: RemoteChart, archive: Path, entry: IndexEntry | None = None) -> Chart:
        """The chart in a pulled archive, unpacked beside it.

        Raises: ValueError where it is not the one that was asked for; OSError.
        """
        digest = hashlib.sha256(_archive(archive)).hexdigest()
        if reason := remote.refused_archive(digest, entry):
            raise ValueError(reason)
        chart = _load(archive)
        if chart.name != remote.name or chart.version.removeprefix("v") != remote.version.removeprefix("v"):
            raise ValueError(
                f"repository {remote.repository} gave {chart.name} {chart.version}, not {remote.name} {remote.version}"
            )
        return self.pin(chart, archive.parent)

    def names(self) -> tuple[str, ...]:
        """The names of all charts in the store."""
        return tuple(sorted({chart.name for directory in self._directories for chart in _all(directory)}))

    def _remote(self, name: str, version: str) -> RemoteChart:
        repository, _, chart = name.partition("/")
        url = self._scope.repositories.get(repository)
        if url is None or not _NAME.fullmatch(chart):
            known = ", ".join(f"{known}/NAME" for known in sorted(self._scope.repositories)) or "none is configured"
            raise ValueError(f"{name!r} is no chart of a configured repository ({known}); {self._known()}")
        if not _VERSION.fullmatch(version):
            raise ValueError(f"{name} needs --version with one exact version, such as 0.12.0")
        if not _NAME.fullmatch(repository) or (reason := refused_address(url)):
            raise ValueError(reason or f"{repository!r} is no name of a repository")
        pinned = self._scope.chart_digests.get(f"{name}@{version}", "").removeprefix("sha256:")
        return RemoteChart(repository, chart, version, url, self._scope.chart_hosts, pinned)

    def _known(self) -> str:
        names = self.names()
        return f"use one of {', '.join(names)}" if names else "the chart store is empty"


def _archive(path: Path) -> bytes:
    """Raises: ValueError for one that is too large to be a chart."""
    with path.open("rb") as stream:
        data = stream.read(MAX_ARCHIVE_BYTES + 1)
    if len(data) > MAX_ARCHIVE_BYTES:
        raise ValueError(f"{path.name} is larger than {MAX_ARCHIVE_BYTES} bytes")
    return data


def _all(directory: Path) -> Iterator[Chart]:
    if not directory.is_dir():
        return
    entries = sorted(directory.iterdir())
    yield from _readable(entry for entry in entries if (entry / "Chart.yaml").is_file() or entry.suffix == ".tgz")


def _readable(entries: Iterable[Path]) -> Iterator[Chart]:
    """Those that are charts; the store may hold something else besides."""
    for entry in entries:
        try:
            yield _load(entry)
        except (ValueError, OSError):
            continue


def _named(directory: Path, name: str) -> list[Chart]:
    """Charts of that name: the directory ``NAME``, then archives ``NAME-VERSION.tgz``, the newest first.

    Raises: ValueError where the entry leads out of the store, or is not that chart.
    """
    store = directory.resolve()
    entries = [store / name] if (store / name / "Chart.yaml").is_file() else []
    archives = _readable(path for path in store.glob(f"{name}-*.tgz") if path.resolve().is_relative_to(store))
    found = []
    for entry in entries:
        target = entry.resolve()
        if not target.is_relative_to(store) or target == store:
            raise ValueError(f"chart {name} in {directory} is a link that leads out of the chart store")
        chart = _load(target)
        if chart.name != name:
            raise ValueError(f"the chart in {entry} calls itself {chart.name!r}, not {name!r}")
        found.append(chart)
    newest = sorted((chart for chart in archives if chart.name == name), key=_Order, reverse=True)
    return [*found, *newest]


class _Order:
    """Charts by semantic version: numbers first, a pre-release before its release."""

    def __init__(self, chart: Chart) -> None:
        self._chart = chart

    @cached_property
    def _parts(self) -> tuple[tuple[int, ...], bool, str]:
        core, _, pre = self._chart.version.removeprefix("v").partition("+")[0].partition("-")
        return tuple(int(part) if part.isdigit() else 0 for part in core.split(".")), not pre, pre

    def __lt__(self, other: _Order) -> bool:
        return self._parts < other._parts


def _load(path: Path) -> Chart:
    """Raises: ValueError for what is no chart."""
    from obi_mcp.policy.yaml_reader import read_stream

    files = read_chart(path)
    try:
        text = files["Chart.yaml"].decode("utf-8")
        bodies = list(read_stream(text, max_bytes=_METADATA_BYTES, max_documents=1, max_aliases=0))
    except (KeyError, UnicodeDecodeError, InvalidDocument) as error:
        raise ValueError(f"{path} has no readable Chart.yaml: {error}") from None
    data = bodies[0][2] if bodies else None
    name, version = (data.get("name"), data.get("version")) if isinstance(data, dict) else (None, None)
    if not isinstance(data, dict) or not isinstance(name, str) or not isinstance(version, str):
        raise ValueError(f"the Chart.yaml of {path} has no name and version")
    return Chart(path.resolve(), name, version, digest_of(files), str(data.get("appVersion", "")))
