"""A repository operator who is not to be trusted: archives and indexes that helm could read otherwise than we do."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from obi_mcp.enforcer.charts import private_chart
from obi_mcp.policy.chart import Chart, ChartStore
from obi_mcp.policy.chart_files import read_archive, read_chart
from obi_mcp.policy.chart_index import IndexEntry, read_entry
from obi_mcp.policy.chart_remote import RemoteChart
from obi_mcp.policy.chart_scan import called, scan_files
from obi_mcp.policy.model import RenderSpec
from obi_mcp.policy.scope import Scope

EVIL = b'x: {{ lookup "v1" "Secret" "kube-system" "" | toJson }}\n'
CHART = b"apiVersion: v2\nname: obi\nversion: 1.0.0\n"

# --- the archive ---


def packed(*members: tuple[str, bytes], headers: dict[str, str] | None = None, every: bool = False) -> bytes:
    """An archive with these members by their full names; ``headers`` are put before the last one, or before all."""
    stream = io.BytesIO()
    glob = headers if every else None
    with tarfile.open(fileobj=stream, mode="w:gz", format=tarfile.PAX_FORMAT, pax_headers=glob) as archive:
        for position, (name, data) in enumerate(members):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            if headers and not every and position == len(members) - 1:
                member.pax_headers = headers
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


@pytest.mark.parametrize(
    "name",
    [
        # helm drops the first word, whatever it is: these are templates for it.
        "./templates/evil.yaml",
        "x\\templates\\evil.yaml",
        "obi/x\\templates\\evil.yaml",
        "obi/./templates/evil.yaml",
        "obi/x/../templates/evil.yaml",
        "obi//templates/evil.yaml",
        "../templates/evil.yaml",
        "/templates/evil.yaml",
        "obi/templates/evil\n.yaml",
        "obi/templates/evil\x1b[2K.yaml",
    ],
)
def test_no_name_of_an_archive_means_something_else_to_helm(name: str) -> None:
    with pytest.raises(ValueError, match="no plain file of a chart"):
        read_archive(packed(("obi/Chart.yaml", CHART), (name, EVIL)), "obi.tgz")


def test_of_two_files_with_one_name_neither_is_read() -> None:
    twice = packed(("obi/Chart.yaml", CHART), ("obi/templates/a.yaml", EVIL), ("obi/templates/a.yaml", b"x"))
    with pytest.raises(ValueError, match="twice"):
        read_archive(twice, "obi.tgz")


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("headers", [{"GNU.sparse.name": "obi/README.md"}, {"path": "obi/README.md"}, {}])
def test_helm_reads_the_files_that_were_scanned_and_no_archive(
    headers: dict[str, str], every: bool, tmp_path: Path
) -> None:
    """Python and Go take extension headers differently, so that one sees README.md where the other sees a template."""
    store = tmp_path / "store"
    store.mkdir()
    data = packed(("obi/Chart.yaml", CHART), ("obi/templates/evil.yaml", EVIL), headers=headers, every=every)
    try:
        (store / "obi-1.0.0.tgz").write_bytes(data)
        chart = ChartStore([store], Scope()).resolve("obi")
        assert isinstance(chart, Chart) and chart.version == "1.0.0"
        pinned = ChartStore([store], Scope()).pin(chart, tmp_path)
    except ValueError:
        return  # not read at all
    written = {at.relative_to(pinned.path).as_posix() for at in pinned.path.rglob("*") if at.is_file()}
    assert written == set(read_chart(pinned.path)) and not list(pinned.path.rglob("*.tgz"))
    assert ("templates/evil.yaml" in written) is bool(list(scan_files(read_chart(pinned.path))))


def test_a_packaged_chart_inside_is_given_to_helm_as_files(tmp_path: Path) -> None:
    inner = packed(("in/Chart.yaml", CHART), ("in/templates/evil.yaml", EVIL))
    outer = tmp_path / "obi-1.0.0.tgz"
    outer.write_bytes(packed(("obi/Chart.yaml", CHART), ("obi/charts/in.tgz", inner)))
    store = ChartStore([], Scope(repositories={"otel": "https://charts.example.com"}))
    remote = store.resolve("otel/obi", "1.0.0")
    assert isinstance(remote, RemoteChart)
    chart = store.fetched(remote, outer)
    assert chart.path.is_dir() and not list(chart.path.rglob("*.tgz"))
    assert [found.path for found in store.scan(chart)] == ["charts/in/templates/evil.yaml"]


@pytest.mark.parametrize(
    ("files", "rule"),
    [
        ({"templates/{{ lookup `v1` }}.yaml": "{{ tpl .Template.Name . }}"}, "chart.name"),
        ({"values.schema.json": '{"$ref": "http://169.254.169.254/"}'}, "chart.schema"),
        ({"values.schema.json": '{"$schema": "http://169.254.169.254/"}'}, "chart.schema"),
        ({"values.schema.json": '{"$schema": "file:///var/run/secrets/token"}'}, "chart.schema"),
        ({"values.schema.json": '{"a": [{"$dynamicRef": "file:///etc/shadow"}]}'}, "chart.schema"),
        ({"values.schema.json": '{"$recursiveRef": "https://evil.example/"}'}, "chart.schema"),
        ({"charts/in/values.schema.json": '{"$schema": "https://evil.example/"}'}, "chart.schema"),
        ({"values.schema.json": '{"$schema": "http://json-schema.org/draft-07/schema#"}'}, None),
        ({"values.schema.json": '{"$schema": "https://json-schema.org/draft/2020-12/schema"}'}, None),
        ({"crds/a.yaml": "kind: CustomResourceDefinition"}, "chart.crds"),
        ({"charts/in/crds/a.yaml": "kind: CustomResourceDefinition"}, "chart.crds"),
        ({"templates/_hidden.tpl": '{{ define "a" }}{{ now }}{{ end }}'}, "chart.now"),
    ],
)
def test_no_template_computes_what_nobody_can_judge(files: dict[str, str], rule: str | None) -> None:
    found = {violation.rule for violation in scan_files({name: text.encode() for name, text in files.items()})}
    assert found == ({rule} if rule else set())


def test_a_hostile_template_is_read_in_time_that_grows_with_its_size() -> None:
    words = sum(1 for _ in called("{{" + "\n a" * 100_000))
    assert words == 100_000


# --- the index, of which helm and this server may read different entries ---

GOOD = "https://charts.example.com/obi-1.0.0.tgz"
INDEXES = [
    # JSON with doubled keys: helm's reader takes the last, ours the first.
    '{"apiVersion":"v1","entries":{"obi":[{"version":"1.0.0","urls":["GOOD"]}],"obi":[{"version":"1.0.0","urls":["EVIL"]}]}}',
    '{"apiVersion":"v1","entries":{"obi":[{"version":"1.0.0","urls":["GOOD"]}]},"Entries":{"obi":[{"version":"1.0.0","urls":["EVIL"]}]}}',
    "entries:\n  obi:\n  - {version: 1.0.0, urls: [GOOD]}\n  - {version: 1.0.0, urls: [EVIL]}",
    "entries:\n  obi:\n  - {Version: 1.0.0, Urls: [EVIL]}\n  - {version: 1.0.0, urls: [GOOD]}",
    "v: &v 1.0.0\nentries:\n  obi:\n  - {version: *v, urls: [EVIL]}\n  - {version: 1.0.0, urls: [GOOD]}",
    "m: &m {version: 1.0.0, urls: [EVIL]}\nentries:\n  obi:\n  - {<<: *m}\n  - {version: 1.0.0, urls: [GOOD]}",
    "entries:\n  obi:\n  - {version: 1.0.0, urls: [GOOD, EVIL]}",
]


@pytest.mark.parametrize("index", INDEXES)
def test_helm_is_given_the_one_entry_that_was_judged(index: str) -> None:
    text = index.replace("GOOD", GOOD).replace("EVIL", "http://169.254.169.254/latest")
    entry = read_entry(text.encode(), "obi", "1.0.0")
    chart = RemoteChart("otel", "obi", "1.0.0", "https://charts.example.com")
    assert entry is not None and chart.refused_index(entry) is None
    made = json.loads(chart.index(entry))
    assert made["entries"] == {"obi": [{"apiVersion": "v2", "name": "obi", "version": "1.0.0", "urls": [GOOD]}]}


def test_helm_pulls_by_the_index_of_this_server(tmp_path: Path) -> None:
    index, seen = tmp_path / "otel-index.yaml", []
    doubled = INDEXES[0].replace("GOOD", GOOD).replace("EVIL", "http://169.254.169.254/latest")

    async def run_own(step: str) -> Any:
        if step == "update":
            index.write_text(doubled, "utf-8")
        else:
            seen.append(index.read_text("utf-8"))
        return SimpleNamespace(exit_code=0)

    def approve_fetch(decision: object, remote: object, step: str, folder: Path) -> str:
        return step

    case: Any = SimpleNamespace(
        place=lambda: tmp_path,
        charts=ChartStore([], Scope(repositories={"otel": "https://charts.example.com"})),
        head=SimpleNamespace(value=lambda name: "1.0.0"),
        policy=SimpleNamespace(approve_fetch=approve_fetch),
        run_own=run_own,
        decision=None,
    )
    with pytest.raises(ValueError, match="gave 0 archives"):
        asyncio.run(private_chart(case, RenderSpec("template", "obi", "observability", "otel/obi")))
    assert len(seen) == 1 and GOOD in seen[0] and "169.254" not in seen[0]


@pytest.mark.parametrize(
    "url",
    [
        "https://charts.example.com.evil.example/obi.tgz",
        "https://charts.example.com@evil.example/obi.tgz",
        "https://charts.example.com:8443/obi.tgz",
        "https://evil.example\\@charts.example.com/../obi.tgz#",
        "//evil.example/obi.tgz",
        "https://user:password@charts.example.com/obi.tgz",
        "https://charts.example.com/obi\x1b[2K.tgz",
        "oci://charts.example.com/obi",
        "file:///etc/shadow",
        "https://[::1]/obi.tgz",
        "https://charts.example.com:99999/obi.tgz",
    ],
)
def test_an_index_leads_nowhere_else(url: str) -> None:
    chart = RemoteChart("otel", "obi", "1.0.0", "https://charts.example.com")
    try:
        refused = chart.refused_index(IndexEntry("", (url,)))
    except ValueError as error:
        refused = str(error)
    assert refused
