"""Refusals of rare forms, each with its rule and its reason, and charts that are none."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.policy.policies import over

from obi_mcp.policy import chart_files
from obi_mcp.policy.chart import Chart, ChartStore
from obi_mcp.policy.chart_files import read_archive, read_chart
from obi_mcp.policy.config_schema import config_schema
from obi_mcp.policy.config_types import expected
from obi_mcp.policy.model import Access
from obi_mcp.policy.scope import Scope

SHOP = {"instrumented_namespaces": ["shop"]}
BESIDE = "a name and a selector exclude each other"
REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("kubectl get nodes kwok-0 -l a=b", {}, "kubectl.get.facts", BESIDE),
    ("kubectl get pods web-0 -n shop -l a=b", SHOP, "kubectl.get.status", BESIDE),
    ("kubectl delete pod x -n observability -l app=obi", {}, "kubectl.delete", BESIDE),
    (
        "kubectl rollout undo ds -n observability",
        {},
        "kubectl.rollout.undo",
        "kubectl.rollout.undo is about exactly one object, by name",
    ),
    (
        "kubectl delete pod -n observability",
        {},
        "kubectl.delete",
        "kubectl delete needs the name of an object or a selector",
    ),
]


@pytest.mark.parametrize(("line", "scope", "rule", "reason"), REFUSED, ids=[row[0] for row in REFUSED])
def test_a_rare_form_is_refused_for_what_it_is(line: str, scope: dict[str, Any], rule: str, reason: str) -> None:
    decision = over(scope).decide(line, access=Access.NON_DESTRUCTIVE)
    assert (decision.effect, decision.rule, decision.reason) == ("deny", rule, reason)
    assert decision.hint


def test_a_selector_that_is_none_is_not_taken_for_obis() -> None:
    decision = over(SHOP).decide("kubectl get pods -n shop -l 'a=('", access=Access.READ_ONLY)
    assert (decision.rule, decision.checks) == ("kubectl.get.status", ())


def packed(name: str, kind: bytes = tarfile.REGTYPE) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.type = kind
        archive.addfile(member)
    return data.getvalue()


def with_pipe(path: Path) -> None:
    path.mkdir()
    os.mkfifo(path / "x")


def with_link(path: Path) -> None:
    path.mkdir()
    (path / "x").symlink_to("/etc/shadow")


NO_CHARTS: list[tuple[str, Callable[[Path], object], str]] = [
    ("a file", lambda path: path.write_text("x"), "neither a directory nor a .tgz"),
    ("a pipe in it", with_pipe, "no plain file"),
    ("a link in it", with_link, "symbolic link"),
]


@pytest.mark.parametrize(("make", "said"), [row[1:] for row in NO_CHARTS], ids=[row[0] for row in NO_CHARTS])
def test_what_is_no_chart_is_not_read(tmp_path: Path, make: Callable[[Path], object], said: str) -> None:
    make(tmp_path / "chart")
    with pytest.raises(ValueError, match=said):
        read_chart(tmp_path / "chart")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (packed("obi/../../etc/cron.d/x"), "no plain file of a chart"),
        (packed("obi/x", tarfile.SYMTYPE), "no plain file of a chart"),
        (packed("x"), "no plain file of a chart"),
        (b"no archive", "no packaged chart"),
    ],
    ids=["a way out", "a link", "no folder", "no archive"],
)
def test_what_is_no_packaged_chart_is_not_unpacked(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_archive(data, "obi.tgz")


def test_an_archive_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chart_files, "MAX_BYTES", 1_000)
    with pytest.raises(ValueError, match="larger than 1000 bytes"):
        read_archive(packed("obi/" + "x" * 90), "obi.tgz")


def test_a_chart_that_is_gone_has_changed(tmp_path: Path) -> None:
    folder = tmp_path / "obi"
    folder.mkdir()
    (folder / "Chart.yaml").write_text("name: obi\nversion: 1.0.0\n")
    store = ChartStore.of(str(tmp_path), Scope())
    chart = store.resolve("obi", "")
    assert isinstance(chart, Chart) and store.unchanged(chart)
    (folder / "Chart.yaml").unlink()
    folder.rmdir()
    assert not store.unchanged(chart)


@pytest.mark.parametrize(
    ("kind", "value", "good"),
    [
        ("ports", [80, "443"], True),
        ("ports", "80,8000-9000", True),
        ("ports", [[80]], False),
        ("ports", -1, False),
        ("cidr", {"cidr": "10.0.0.0/8", "name": "x"}, True),
        ("cidr", {"cidr": "no"}, False),
        ("cidr", "10.0.0.0/99", False),
    ],
)
def test_values_of_obis_configuration_have_types(kind: str, value: object, good: bool) -> None:
    assert (expected(config_schema("v1"), kind, value) is None) is good
