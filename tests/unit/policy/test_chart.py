"""The chart store: what a CHART operand may lead to, and what a chart's templates may call."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from obi_mcp.policy.chart import Chart, ChartStore
from obi_mcp.policy.chart_files import digest_of, read_archive, read_chart
from obi_mcp.policy.chart_guard import SAID, guarded
from obi_mcp.policy.chart_index import IndexEntry, read_entry
from obi_mcp.policy.chart_remote import RemoteChart
from obi_mcp.policy.scope import Scope
from obi_mcp.policy.shipped import shipped_charts

CASES = Path(__file__).parents[2] / "cases" / "charts"
SCANNED: list[dict[str, Any]] = yaml.safe_load((CASES / "scanned.yaml").read_text("utf-8"))


def write_chart(store: Path, name: str = "obi", version: str = "0.1.0", **files: str) -> Path:
    """A chart in a directory of its own; ``files`` by path."""
    top = store / name
    contents = {"Chart.yaml": f"apiVersion: v2\nname: {name}\nversion: {version}\n", "values.yaml": "{}\n", **files}
    for path, text in contents.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text(text, "utf-8")
    return top


def pack(files: dict[str, bytes], top: str = "obi") -> bytes:
    """A packaged chart, as ``helm package`` makes it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for path, data in files.items():
            member = tarfile.TarInfo(f"{top}/{path}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def resolved(store: ChartStore, name: str, version: str = "") -> Chart:
    chart = store.resolve(name, version)
    assert isinstance(chart, Chart)
    return chart


@pytest.mark.parametrize("case", SCANNED, ids=lambda case: case["name"])
def test_templates_call_only_what_reads_nothing_and_stays_the_same(case: dict[str, Any], tmp_path: Path) -> None:
    write_chart(tmp_path, **{"templates/x.yaml": case["template"], **case.get("files", {})})
    store = ChartStore([tmp_path], Scope())
    assert sorted(v.rule for v in store.scan(resolved(store, "obi"))) == sorted(case["refused"])


def test_a_finding_names_file_and_line(tmp_path: Path) -> None:
    write_chart(
        tmp_path, **{"charts/inner/Chart.yaml": "name: inner", "charts/inner/templates/a.yaml": "x\n\n{{ now }}"}
    )
    store = ChartStore([tmp_path], Scope())
    (violation,) = store.scan(resolved(store, "obi"))
    assert violation.path == "charts/inner/templates/a.yaml"
    assert violation.reason.startswith("line 3 calls now")


def test_packaged_charts_inside_are_scanned(tmp_path: Path) -> None:
    inner = pack({"Chart.yaml": b"name: inner", "templates/x.yaml": b"{{ now }}"}, "inner")
    outer = pack({"Chart.yaml": b"name: middle", "charts/inner-1.0.0.tgz": inner}, "middle")
    (write_chart(tmp_path) / "charts").mkdir()
    (tmp_path / "obi" / "charts" / "middle.tgz").write_bytes(outer)
    store = ChartStore([tmp_path], Scope())
    (violation,) = store.scan(resolved(store, "obi"))
    assert (violation.rule, violation.path) == (
        "chart.now",
        "charts/middle/charts/inner-1.0.0/templates/x.yaml",
    )


def test_a_trusted_chart_may_do_what_it_likes(tmp_path: Path) -> None:
    write_chart(tmp_path, **{"templates/x.yaml": "{{ now }}"})
    store = ChartStore([tmp_path], Scope(charts_trusted=("obi",)))
    assert store.scan(resolved(store, "obi")) == ()


@pytest.mark.parametrize(
    ("folder", "rule"), [("lookup", "chart.lookup"), ("random", "chart.now"), ("crds", "chart.crds")]
)
def test_the_charts_of_the_cases_are_refused(folder: str, rule: str) -> None:
    store = ChartStore([CASES / folder], Scope())
    assert rule in {violation.rule for violation in store.scan(resolved(store, "obi"))}


@pytest.mark.parametrize("folder", ["tpl", "hook", "foreign-image"])
def test_what_a_scan_cannot_see_is_left_to_the_rendering(folder: str) -> None:
    store = ChartStore([CASES / folder], Scope())
    assert store.scan(resolved(store, "obi")) == ()


PATHS = ["./obi", "../obi", "/etc", "obi/", "a/../obi", ".", "..", "", "obi\\x", "unknown/obi"]
URLS = ["https://evil.example/c.tgz", "oci://evil.example/obi", "file:///c"]
NO_NAMES = ["OBI ", "obi\n", "-obi", "obi*", "nothere"]


@pytest.mark.parametrize("name", [*PATHS, *URLS, *NO_NAMES])
def test_a_chart_is_a_bare_name_of_the_store(name: str, tmp_path: Path) -> None:
    write_chart(tmp_path)
    with pytest.raises(ValueError, match=r"chart"):
        ChartStore([tmp_path], Scope()).resolve(name)


def test_the_operators_store_comes_first_and_the_built_in_one_behind_it(tmp_path: Path) -> None:
    write_chart(tmp_path, version="9.9.9")
    write_chart(tmp_path, name="beyla")
    own = ChartStore.of(str(tmp_path), Scope())
    assert resolved(own, "obi").version == "9.9.9"
    assert own.names() == ("beyla", "obi")
    built_in = resolved(ChartStore.of(None, Scope()), "obi")
    assert built_in.path == (shipped_charts() / "obi").resolve()
    assert resolved(own, "obi", built_in.version) == built_in


def test_the_path_is_absolute_and_the_digest_that_of_its_files(tmp_path: Path) -> None:
    top = write_chart(tmp_path)
    store = ChartStore([Path(os.path.relpath(tmp_path))], Scope())
    chart = resolved(store, "obi")
    assert chart == Chart(top.resolve(), "obi", "0.1.0", digest_of(read_chart(top)))
    assert store.unchanged(chart)
    (top / "templates").mkdir()
    (top / "templates" / "late.yaml").write_text("{{ now }}")
    assert not store.unchanged(chart)


def test_a_directory_and_its_archive_have_the_same_digest(tmp_path: Path) -> None:
    files = read_chart(write_chart(tmp_path, **{"templates/x.yaml": "x"}))
    assert read_archive(pack(files), "obi.tgz") == files
    assert digest_of({"a": b"bc"}) != digest_of({"ab": b"c"})


def test_archives_of_the_store_are_found_by_version(tmp_path: Path) -> None:
    for version in ("0.9.0", "0.12.0-rc.1", "0.12.0", "0.2.0"):
        data = f"apiVersion: v2\nname: obi\nversion: {version}\n".encode()
        (tmp_path / f"obi-{version}.tgz").write_bytes(pack({"Chart.yaml": data}))
    (tmp_path / "obi-broken-1.0.0.tgz").write_bytes(b"no archive")
    store = ChartStore([tmp_path], Scope())
    assert resolved(store, "obi").version == "0.12.0"
    assert resolved(store, "obi", "v0.9.0").path == tmp_path.resolve() / "obi-0.9.0.tgz"
    with pytest.raises(ValueError, match=r"not there in version '1.0.0', but in 0.12.0, 0.12.0-rc.1, 0.9.0, 0.2.0"):
        store.resolve("obi", "1.0.0")


def test_no_chart_leads_out_of_the_store(tmp_path: Path) -> None:
    outside = write_chart(tmp_path / "outside")
    store = tmp_path / "store"
    store.mkdir()
    (store / "obi").symlink_to(outside)
    with pytest.raises(ValueError, match="leads out of the chart store"):
        ChartStore([store], Scope()).resolve("obi")
    (store / "obi").unlink()
    (write_chart(store) / "values.yaml").unlink()
    (store / "obi" / "values.yaml").symlink_to("/etc/passwd")
    with pytest.raises(ValueError, match="symbolic link"):
        ChartStore([store], Scope()).resolve("obi")


def test_a_chart_calls_itself_what_its_folder_is_called(tmp_path: Path) -> None:
    write_chart(tmp_path, **{"Chart.yaml": "name: other\nversion: 1.0.0\n"})
    with pytest.raises(ValueError, match="calls itself 'other'"):
        ChartStore([tmp_path], Scope()).resolve("obi")


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"../../etc/passwd": b"x"}, "no plain file"),
        ({"/etc/passwd": b"x"}, "no plain file"),
        ({"templates/big": b"\0" * (11 * 1024 * 1024)}, "larger than"),
    ],
)
def test_an_archive_holds_plain_files_below_its_top(members: dict[str, bytes], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_archive(pack(members), "x.tgz")


def test_an_archive_holds_no_links() -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        member = tarfile.TarInfo("obi/values.yaml")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(ValueError, match="no plain file"):
        read_archive(stream.getvalue(), "x.tgz")


REPOSITORIES = {"otel": "https://charts.example.com", "mirror": "oci://registry.example.com/charts/"}
LOCAL = {
    "here": "oci://127.0.0.1:5000/c",
    "web": "http://user:word@localhost:80/c",
    "plain": "http://charts.example.com",
}


def remote(name: str, version: str = "0.12.0", **scope: Any) -> RemoteChart:
    chart = ChartStore([], Scope(repositories=REPOSITORIES | LOCAL, **scope)).resolve(name, version)
    assert isinstance(chart, RemoteChart)
    return chart


@pytest.mark.parametrize(
    ("name", "version", "arguments"),
    [
        ("otel/obi", "0.12.0", ("pull", "otel/obi", "--version=0.12.0")),
        ("mirror/obi", "v1.0.0-rc.1", ("pull", "oci://registry.example.com/charts/obi", "--version=v1.0.0-rc.1")),
        ("here/obi", "1.0.0", ("pull", "oci://127.0.0.1:5000/c/obi", "--version=1.0.0", "--plain-http")),
    ],
)
def test_a_configured_repository_needs_one_exact_version(name: str, version: str, arguments: tuple[str, ...]) -> None:
    chart = remote(name, version)
    pulled = chart.pull(Path("/private"))
    assert tuple(word for word in pulled if "/private" not in word) == arguments
    assert {word.partition("=")[0] for word in pulled if "/private" in word} == {
        *("--destination", "--repository-cache", "--content-cache"),
        "--registry-config" if chart.registry else "--repository-config",
    }


def test_credentials_are_in_a_private_file_and_in_no_argument() -> None:
    chart = remote("web/obi")
    (text,) = chart.configuration().values()
    (entry,) = json.loads(text)["repositories"]
    assert entry == {"name": "web", "url": "http://localhost:80/c", "username": "user", "password": "word"}
    assert "word" not in " ".join((*chart.update(Path("/p")), *chart.pull(Path("/p"))))


def test_only_this_host_is_asked_without_tls() -> None:
    with pytest.raises(ValueError, match="not encrypted"):
        remote("plain/obi")


INDEX = b"""apiVersion: v1
generated: 2026-01-01
entries:
  other:
  - {version: 0.12.0, digest: bad, urls: [bad]}
  obi:
  - apiVersion: v2
    maintainers: [{name: a}]
    annotations: {a: {b: [c]}}
    digest: "abc"
    urls: [%s, second]
    version: 0.12.0
  - version: v0.11.0
    urls: [obi-0.11.0.tgz]
"""


@pytest.mark.parametrize(
    ("url", "hosts", "refused"),
    [
        ("obi-0.12.0.tgz", (), False),
        ("https://charts.example.com:443/x/obi.tgz", (), False),
        ("https://files.example.net/obi.tgz", (), True),
        ("https://files.example.net/obi.tgz", ("files.example.net",), False),
        ("http://files.example.net/obi.tgz", ("files.example.net",), True),
        ("http://charts.example.com/obi.tgz", (), True),
        ("//169.254.169.254/latest", (), True),
        ("file:///etc/passwd", (), True),
    ],
)
def test_an_index_leads_to_no_other_host(url: str, hosts: tuple[str, ...], refused: bool) -> None:
    entry = read_entry(INDEX % url.encode(), "obi", "0.12.0")
    assert entry is not None and entry.digest == "abc"
    assert (remote("otel/obi", chart_hosts=hosts).refused_index(entry) is not None) is refused


def test_an_index_is_read_as_far_as_the_entry() -> None:
    assert read_entry(INDEX % b"x", "obi", "0.11.0") == IndexEntry("", ("obi-0.11.0.tgz",))
    assert read_entry(INDEX % b"x", "obi", "9.9.9") is None
    assert read_entry(INDEX % b"x", "none", "0.12.0") is None
    assert remote("otel/obi").refused_index(None) == "repository otel has no obi 0.12.0"


@pytest.mark.parametrize("text", [b"", b"[]", b"a: 1", b"entries: []", b"entries: {obi: 1}", b"entries: {", b"\xff: 1"])
def test_what_is_no_index_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="index of the repository"):
        read_entry(text, "obi", "1.0.0")


def test_an_archive_has_the_digest_of_the_index_and_of_the_pin(tmp_path: Path) -> None:
    archive = tmp_path / "obi-0.12.0.tgz"
    archive.write_bytes(pack({"Chart.yaml": b"name: obi\nversion: 0.12.0\n"}))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    pins = {"otel/obi@0.12.0": f"sha256:{digest}", "mirror/obi@0.12.0": f"sha256:{'0' * 64}"}
    store = ChartStore([], Scope(repositories=REPOSITORIES, chart_digests=pins))
    right, wrong = store.resolve("otel/obi", "0.12.0"), store.resolve("mirror/obi", "0.12.0")
    assert isinstance(right, RemoteChart) and isinstance(wrong, RemoteChart)
    assert store.fetched(right, archive, IndexEntry(digest, ())).name == "obi"
    with pytest.raises(ValueError, match="the index says"):
        store.fetched(right, archive, IndexEntry("0" * 64, ()))
    with pytest.raises(ValueError, match="as pinned"):
        store.fetched(wrong, archive)


def test_a_pinned_chart_is_a_copy_that_its_source_cannot_change(tmp_path: Path) -> None:
    top = write_chart(tmp_path / "store", **{"templates/x.yaml": "x", ".helmignore": "*.bak"})
    private = tmp_path / "private"
    private.mkdir()
    store = ChartStore([tmp_path / "store"], Scope())
    chart = resolved(store, "obi")
    pinned = store.pin(chart, private)
    assert pinned.path == private / "chart" / "obi" and pinned.digest == chart.digest
    (top / "templates" / "x.yaml").write_text("{{ now }}")
    assert store.unchanged(pinned) and not store.unchanged(chart)
    with pytest.raises(ValueError, match="changed while it was read"):
        store.pin(chart, private)


GUARDED = {
    "templates/a.yaml": ("{{ tpl .x . }}{{ tpl (tpl .y .) . }}", 3),
    "templates/b/c": ('{{/* tpl */}}{{ "tpl" }}{{ .tpl }}{{ $tpl }} tpl', 0),
    "charts/in/templates/a.txt": ("{{- tpl\n(.a).b $ -}}", 1),
    "charts/in/charts/on/templates/_a.tpl": ("{{ $ | tpl `}}` }}", 1),
    "files/templates/a": ("{{ tpl .x . }}", 0),
    "values.yaml": ("{{ tpl .x . }}", 0),
}


def test_every_text_that_a_template_runs_is_guarded_in_the_copy(tmp_path: Path) -> None:
    top = write_chart(tmp_path / "store", **{name: text for name, (text, _) in GUARDED.items()})
    for store, guards in ((Scope(), 1), (Scope(charts_trusted=("obi",)), 0)):
        charts = ChartStore([tmp_path / "store"], store)
        pinned = charts.pin(resolved(charts, "obi"), tmp_path / str(guards))
        for name, (text, calls) in GUARDED.items():
            copied = (pinned.path / name).read_text("utf-8")
            assert copied.count(SAID) == calls * guards, name
            assert (copied == text) is (calls * guards == 0)
        assert charts.unchanged(pinned)
    assert (top / "templates/a.yaml").read_text("utf-8") == GUARDED["templates/a.yaml"][0]


TEXTS = [
    ("{{ tpl .x . }}", True),
    ("x\n{{ .a }}\n{{\n(lookup", True),
    ("{{ print `}}` now }}", True),
    ("{{ .x }} of nslookup", False),
    ("lookup now", False),
    ("{ { now } }", False),
]


@pytest.mark.parametrize(("text", "refused"), TEXTS)
def test_a_guard_refuses_a_template_that_names_what_none_may_call(text: str, refused: bool) -> None:
    made = guarded({"templates/x": b"{{ tpl .x . }}"})["templates/x"].decode()
    assert bool(re.search(made.split("`")[1], text)) is refused


UNREADABLE = [
    "{{ tpl }}",
    "{{ tpl (a }}",
    "{{ tpl 'a' . }}",
    '{{ tpl "a"b . }}',
    "{{ tpl",
    "{{ tpl (a",
    "{{ .x | tpl | a }}",
]


@pytest.mark.parametrize("text", UNREADABLE)
def test_a_template_that_cannot_be_guarded_is_no_chart(text: str) -> None:
    with pytest.raises(ValueError, match=r"line 2 of templates/x calls tpl in a way"):
        guarded({"templates/x": f"\n{text}".encode()})


def test_bytes_that_are_no_text_stay_what_they_are() -> None:
    data = b"\xff\xfe{{ tpl .x . }}\xc0"
    made = guarded({"templates/x": data})["templates/x"]
    assert made.startswith(b"\xff\xfe{{ tpl (") and made.endswith(b") . }}\xc0")


@pytest.mark.parametrize("version", ["", ">=0.1.0", "0.12", "^1.0.0", "1.0.0 || 2.0.0", "latest"])
def test_a_repository_is_not_asked_to_choose_a_version(version: str) -> None:
    with pytest.raises(ValueError, match="--version with one exact version"):
        ChartStore([], Scope(repositories=REPOSITORIES)).resolve("otel/obi", version)


@pytest.mark.parametrize("name", ["otel/../obi", "otel/a/b", "other/obi", "otel/", "/obi"])
def test_a_repository_is_a_configured_one(name: str) -> None:
    with pytest.raises(ValueError, match="no chart of a configured repository"):
        ChartStore([], Scope(repositories=REPOSITORIES)).resolve(name, "1.0.0")


def test_a_fetched_chart_is_the_one_that_was_asked_for(tmp_path: Path) -> None:
    store = ChartStore([], Scope(repositories=REPOSITORIES))
    archive = tmp_path / "obi-0.12.0.tgz"
    archive.write_bytes(pack({"Chart.yaml": b"apiVersion: v2\nname: obi\nversion: 0.12.0\n"}))
    right, wrong = store.resolve("otel/obi", "0.12.0"), store.resolve("otel/obi", "0.11.0")
    assert isinstance(right, RemoteChart) and isinstance(wrong, RemoteChart)
    assert store.fetched(right, archive).path == tmp_path / "chart" / "obi"
    with pytest.raises(ValueError, match=r"gave obi 0.12.0, not obi 0.11.0"):
        store.fetched(wrong, archive)
