"""The chart that a command names, as a private copy: of the store, or fetched by helm from a configured repository."""

from __future__ import annotations

import asyncio
from pathlib import Path

from obi_mcp.enforcer.case import Case
from obi_mcp.errors import ProgramFailed
from obi_mcp.policy.chart import Chart
from obi_mcp.policy.chart_index import MAX_INDEX_BYTES, IndexEntry, read_entry
from obi_mcp.policy.chart_remote import RemoteChart
from obi_mcp.policy.engine import FetchStep
from obi_mcp.policy.model import RenderSpec


async def private_chart(case: Case, spec: RenderSpec) -> Chart:
    """The chart in a folder of this call. Raises: ValueError, a whole sentence, where there is none to be had.

    INVARIANT: nobody else writes there, so that what is scanned and rendered is what helm installs.
    """
    if case.place is None:  # INVARIANT: the enforcer's cases have one
        raise ProgramFailed("there is no private place for the chart")
    folder = case.place()
    chart = await asyncio.to_thread(case.charts.resolve, spec.chart, case.head.value("version"))
    try:
        if isinstance(chart, RemoteChart):
            return await _fetched(case, chart, folder)
        return await asyncio.to_thread(case.charts.pin, chart, folder)
    except OSError as error:
        raise ValueError(f"the chart {spec.chart} cannot be read: {error.strerror}") from None


async def _fetched(case: Case, remote: RemoteChart, folder: Path) -> Chart:
    for name, text in remote.configuration().items():
        (folder / name).write_text(text, encoding="utf-8")
    entry: IndexEntry | None = None
    if not remote.registry:
        await _step(case, remote, "update", folder)
        entry = await asyncio.to_thread(_entry, remote, folder)
        if (reason := remote.refused_index(entry)) or entry is None:
            raise ValueError(reason)
        (folder / f"{remote.repository}-index.yaml").write_text(remote.index(entry), encoding="utf-8")
    await _step(case, remote, "pull", folder)
    archives = sorted(folder.glob("*.tgz"))
    if len(archives) != 1:
        raise ValueError(f"repository {remote.repository} gave {len(archives)} archives for {remote.name}")
    return await asyncio.to_thread(case.charts.fetched, remote, archives[0], entry)


def _entry(remote: RemoteChart, folder: Path) -> IndexEntry | None:
    path = folder / f"{remote.repository}-index.yaml"
    if path.stat().st_size > MAX_INDEX_BYTES:
        raise ValueError(f"the index of repository {remote.repository} is larger than {MAX_INDEX_BYTES} bytes")
    return read_entry(path.read_bytes(), remote.name, remote.version)


async def _step(case: Case, remote: RemoteChart, step: FetchStep, folder: Path) -> None:
    completed = await case.run_own(case.policy.approve_fetch(case.decision, remote, step, folder))
    if completed.exit_code == 0:
        return
    # `helm repo update` says why on standard output, and on standard error that there was something.
    said = " ".join((completed.stdout + b"\n" + completed.stderr).decode("utf-8", "replace").split())[-600:]
    raise ValueError(f"repository {remote.repository} did not give {remote.name} {remote.version}: {said}")
