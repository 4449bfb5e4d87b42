"""Symptoms: recorded logs of OBI v0.5.0 and what each shows, and the reasons that Kubernetes gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from obi_mcp.obi.symptoms import symptom_of_end, symptoms_in

LOGS = Path(__file__).parents[2] / "cases" / "obi-logs"


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("ctxprop-all-app", ["shutdown", "lockdown", "watcher"]),
        ("k8s-cache-unreachable", ["cache", "watcher", "informer"]),
        ("k8s-enabled-no-cluster", ["watcher", "informer"]),
        ("lockdown-app", ["watcher"]),
        ("no-btf-app", ["btf"]),
        ("no-btf-net", ["btf"]),
        ("no-tracefs-app", ["watcher"]),
        ("nobody-app-enforce", ["capabilities"]),
        ("nobody-app", ["memlock", "capabilities"]),
        ("nobody-min-caps-net", []),
        ("nobody-min-caps-nettc", []),
        ("nobody-net-socket", ["memlock", "capabilities"]),
        ("nobody-net-tc", ["memlock", "capabilities"]),
        ("otlp-refused", ["otlp-refused"]),
        ("otlp-traces-refused", ["shutdown", "lockdown", "watcher"]),
        ("prom-port-in-use", ["port"]),
    ],
)
def test_a_recorded_log_shows_what_was_wrong(log: str, expected: list[str]) -> None:
    found = symptoms_in((LOGS / f"{log}.log").read_text().splitlines())
    assert [symptom.id for symptom in found] == expected
    assert all(symptom.cause and symptom.way_out and symptom.source and symptom.evidence for symptom in found)


def test_every_recorded_log_is_in_the_table() -> None:
    assert len(list(LOGS.glob("*.log"))) == 16


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("OOMKilled", "memory limit"), ("Completed", "Prometheus port"), ("ImagePullBackOff", "cannot be pulled")],
)
def test_the_reason_of_an_end_is_explained(reason: str, expected: str) -> None:
    symptom = symptom_of_end(reason)
    assert symptom is not None and expected in symptom.cause


def test_an_unknown_reason_is_not_explained() -> None:
    assert symptom_of_end("ContainerCreating") is None
    assert symptoms_in(["level=INFO msg=ready"]) == ()
