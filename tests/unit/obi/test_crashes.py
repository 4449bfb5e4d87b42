"""Why OBI ended, and what it uses: from pods and log lines as they are recorded to one finding each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from obi_mcp.obi.crashes import crash_of, explained
from obi_mcp.obi.findings import Severity
from obi_mcp.obi.usage import Usage, near_limits, quantity, usage_of

ROOT = Path(__file__).parents[3]
SYMPTOMS = json.loads((ROOT / "policy/obi/symptoms.json").read_text())


def crashed(reason: str = "Error", code: int = 255, *, count: int = 4, state: str = "waiting") -> dict[str, Any]:
    ended = {"reason": reason, "exitCode": code, "finishedAt": "2026-11-21T07:25:16Z"}
    now = {"waiting": {"waiting": {"reason": "CrashLoopBackOff"}}, "running": {"running": {}}}
    status: dict[str, Any] = {"name": "obi", "restartCount": count}
    status |= {"state": {"terminated": ended}} if state == "ended" else {"state": now[state]}
    if state != "ended":
        status["lastState"] = {"terminated": ended}
    return {"metadata": {"name": "obi-1"}, "status": {"containerStatuses": [status]}}


@pytest.mark.parametrize("entry", SYMPTOMS["symptoms"], ids=lambda entry: str(entry["id"]))
def test_every_symptom_explains_an_end_with_cause_and_way_out(entry: dict[str, Any]) -> None:
    last = " ".join([*entry.get("says", ()), *entry.get("any", ())[:1], *entry.get("also", ())])
    crash = crash_of(crashed())
    assert crash is not None
    finding = explained(crash, ["time=x level=INFO msg=starting", f"level=ERROR msg={last}", "goodbye"])
    assert (finding.id, finding.severity) == (f"crash.{entry['id']}", Severity.ERROR)
    assert entry["cause"] in finding.what and "4 times (last: Error, exit code 255)" in finding.what
    assert finding.next_step == entry["way_out"] and last in finding.evidence


@pytest.mark.parametrize("entry", SYMPTOMS["ends"], ids=lambda entry: str(entry["reason"]))
def test_every_reason_of_kubernetes_explains_an_end_that_the_log_does_not(entry: dict[str, Any]) -> None:
    crash = crash_of(crashed(entry["reason"], 0))
    assert crash is not None
    finding = explained(crash, ["nothing of note"])
    assert finding.id == f"crash.{entry['reason'].lower()}" and finding.next_step == entry["way_out"]


@pytest.mark.parametrize(
    ("pod", "lines", "id", "severity", "says"),
    [
        (crashed("OOMKilled", 137), ["address already in use"], "crash.oomkilled", Severity.ERROR, "exit code 137"),
        (crashed("Completed", 0), ["address already in use"], "crash.port", Severity.ERROR, "Completed, exit code 0"),
        (crashed(count=1, state="running"), ["yaml: bad"], "crash.config", Severity.WARNING, "started again once"),
        (crashed(count=9, state="running"), ["yaml: bad"], "crash.config", Severity.ERROR, "9 times"),
        (crashed(count=0, state="ended"), ["yaml: bad"], "crash.config", Severity.ERROR, "obi-1 ended (Error"),
        (crashed(), [], "crash.unknown", Severity.ERROR, "no cause that is known"),
    ],
)
def test_how_bad_an_end_is(pod: Any, lines: list[str], id: str, severity: Severity, says: str) -> None:
    crash = crash_of(pod)
    assert crash is not None
    finding = explained(crash, lines)
    assert (finding.id, finding.severity) == (id, severity) and says in finding.what, finding


def test_the_last_words_of_an_unknown_end_are_shown() -> None:
    crash = crash_of(crashed())
    assert crash is not None
    assert explained(crash, ["a", "b", "", "c", "d"]).evidence == "b | c | d"


def test_a_pod_that_never_ended_has_no_crash() -> None:
    assert crash_of({"status": {"containerStatuses": [{"state": {"running": {}}, "restartCount": 0}]}}) is None
    assert crash_of({}) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [("250m", 0.25), ("0.1", 0.1), ("1.5Gi", 1.5 * 2**30), ("100k", 1e5), ("12345678n", 0.012345678), ("2e3", 2000.0),
     ("64Mi", 2.0**26), (7, 7.0), ("", None), ("much", None), ("1Xi", None), (None, None)],
)  # fmt: skip
def test_quantities(text: object, value: float | None) -> None:
    assert quantity(text) == (None if value is None else pytest.approx(value))


def limited(name: str, **limits: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "obi", "resources": {"limits": limits}}]}}


def measured(name: str, cpu: str, memory: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "containers": [{"name": "obi", "usage": {"cpu": cpu, "memory": memory}}]}


def test_usage_is_set_against_limits() -> None:
    pods = [limited("a", memory="512Mi", cpu="1"), limited("b", memory="512Mi"), limited("c")]
    used = [measured("a", "20m", "480Mi"), measured("b", "950m", "100Mi"), measured("c", "1", "4Gi")]
    usage = usage_of([*used, measured("gone", "1", "1Gi")], pods)
    assert usage.pods["a"].as_json() == {
        "cpu_m": 20.0, "memory_mib": 480.0, "cpu_limit_m": 1000.0, "memory_limit_mib": 512.0
    }  # fmt: skip
    assert usage.of(["a", "b", "c"])["memory_mib"] == {"median": 480.0, "max": 4096.0}
    (finding,) = near_limits(usage)
    assert (finding.id, finding.evidence, finding.severity) == ("usage.memory", "a 94%", Severity.WARNING)


def test_what_is_not_known_is_said_with_its_reason() -> None:
    assert Usage({}, "no metrics-server").of(["a"]) == {"unknown": "no metrics-server"}
    assert "unknown" in usage_of([], [limited("a")]).of(["a"])
