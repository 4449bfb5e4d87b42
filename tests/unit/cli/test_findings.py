"""What ``doctor`` finds on the host: each finding that is more than a fact says what to do."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import pytest

from obi_mcp.audit import AuditEntry, AuditLog
from obi_mcp.cli import findings
from obi_mcp.cli.findings import Finding
from obi_mcp.cli.findings_confinement import (
    landlock_finding,
    launcher_finding,
    sandbox_findings,
    seccomp_finding,
)
from obi_mcp.cli.findings_endpoints import endpoint_finding
from obi_mcp.config import Audit, Programs, Settings
from obi_mcp.policy.model import Access
from obi_mcp.policy.scope import Scope
from obi_mcp.process.kernel import landlock_abi


def of(finding: Finding) -> tuple[str, str]:
    if finding.severity == "problem":
        assert finding.next_step
    return (finding.severity, finding.evidence)


def audited(file: Path) -> Settings:
    return Settings(audit=Audit(str(file)))


def test_settings_say_their_file_and_level(tmp_path: Path) -> None:
    assert of(findings.settings_finding(Settings())) == (
        "ok",
        "defaults, environment and flags; no file was found; access level read-only",
    )
    named = Settings(source=tmp_path / "c.yaml", access=Access.FULL)
    assert of(findings.settings_finding(named)) == ("ok", f"from {tmp_path}/c.yaml; access level full")


def test_a_policy_directory_that_is_wrong_is_a_problem(tmp_path: Path) -> None:
    assert of(findings.policy_finding(Settings()))[0] == "ok"
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules/mine.yaml").write_text("- id: kubectl.mine\n")
    assert of(findings.policy_finding(Settings(policy_directory=str(tmp_path))))[0] == "problem"


def test_an_audit_log_is_looked_at_without_taking_its_lock(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    assert of(findings.audit_finding(Settings()))[0] == "note"
    assert of(findings.audit_finding(audited(file))) == ("ok", f"{file} will be made")
    assert of(findings.audit_finding(audited(tmp_path / "none/audit.log")))[0] == "problem"
    log = AuditLog(audited(file))
    log.record(AuditEntry("obi_kubectl", "kubectl get pods", "test"))
    log.record(AuditEntry("obi_kubectl", "kubectl get pods", "test"))
    assert of(findings.audit_finding(audited(file))) == ("ok", f"{file}: 2 lines, each as it was written")
    log.close()
    file.write_text(file.read_text().replace("pods", "p0ds"))
    severity, evidence = of(findings.audit_finding(audited(file)))
    assert (severity, "line 1 was changed" in evidence) == ("problem", True)


def test_a_chart_store_without_charts_is_a_problem_when_it_was_configured(tmp_path: Path) -> None:
    store = Settings(programs=Programs(chart_store=str(tmp_path)))
    assert of(findings.chart_finding(store)) == ("problem", f"{tmp_path} holds no chart")
    (tmp_path / "obi").mkdir()
    (tmp_path / "obi/Chart.yaml").write_text("name: obi\n")
    assert of(findings.chart_finding(store)) == ("ok", f"{tmp_path}: obi")


KUBECONFIGS: list[tuple[str, int | None, str, str]] = [
    # what, the file's mode (None: not there), severity, evidence
    ("the owner's alone", 0o600, "ok", "{file}"),
    ("readable by all", 0o644, "note", "{file} may be read by others"),
    ("not there", None, "problem", "the kubeconfig {file} is not there"),
]


@pytest.mark.parametrize(("what", "mode", "severity", "evidence"), KUBECONFIGS, ids=[row[0] for row in KUBECONFIGS])
def test_a_kubeconfig_is_there_and_its_owners_alone(
    what: str, mode: int | None, severity: str, evidence: str, tmp_path: Path
) -> None:
    file = tmp_path / ".kube/config"
    file.parent.mkdir()
    if mode is not None:
        file.touch(mode)
        file.chmod(mode)
    expected = [(severity, evidence.format(file=file))]
    named = Settings(programs=Programs(kubeconfig=str(file)))
    assert [of(found) for found in findings.kubeconfig_findings(named, {})] == expected
    assert [of(found) for found in findings.kubeconfig_findings(Settings(), {"KUBECONFIG": str(file)})] == expected
    by_home = [of(found) for found in findings.kubeconfig_findings(Settings(), {"HOME": str(tmp_path)})]
    assert by_home == (expected if mode else [("problem", "no kubeconfig is named, and ~/.kube/config is not there")])


def test_who_has_no_cluster_needs_no_kubeconfig(tmp_path: Path) -> None:
    for toolsets, severity in ((("local", "docker"), "note"), (("local", "helm"), "problem"), (("all",), "problem")):
        (found,) = findings.kubeconfig_findings(Settings(toolsets=toolsets), {"HOME": str(tmp_path)})
        assert (found.severity, "--toolsets local" in (found.next_step or "")) == (severity, True)


WORKLOAD = {
    "kind": "DaemonSet",
    "spec": {
        "template": {
            "spec": {
                "containers": [
                    {
                        "env": [
                            {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "https://tempo.example.com:4318"},
                            {"name": "OTEL_EBPF_OPEN_PORT", "value": "8080"},
                            {"name": "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "valueFrom": {"fieldRef": {}}},
                        ]
                    }
                ]
            }
        }
    },
}
CONFIG = {
    "kind": "ConfigMap",
    "data": {
        "obi.yml": "otel_traces_export:\n  endpoint: http://collector.observability.svc:4318\n"
        "otel_metrics_export: {endpoint: 'https://mimir.example.com'}\n",
        "notes.txt": "endpoint: https://nobody.example.com",
        "broken.yaml": "endpoint: [",
    },
}


def test_endpoints_in_use_elsewhere_are_named_with_the_line_to_add() -> None:
    found = endpoint_finding("telemetry", [WORKLOAD, CONFIG], Scope())
    assert found == Finding(
        "telemetry",
        "note",
        "OBI sends telemetry to https://mimir.example.com, https://tempo.example.com:4318, which scope.endpoints does "
        "not list",
        "if that is right, add to the configuration: scope: {endpoints: "
        '["https://mimir.example.com", "https://tempo.example.com:4318"]}',
    )
    listed = Scope(endpoints=("https://mimir.example.com", "https://tempo.example.com:4318"))
    assert of(endpoint_finding("telemetry", [WORKLOAD, CONFIG], listed))[0] == "ok"


def test_few_open_files_are_noted() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (findings.LEAST_FILES - 1, hard))
    try:
        limits, files = findings.limit_findings(Settings())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert of(limits) == ("ok", "30 s (at most 300), 100,000 bytes (at most 1,000,000), 16 commands at once")
    assert of(files) == ("note", f"{findings.LEAST_FILES - 1} at most")
    assert files.next_step


def test_sandboxing_names_every_layer() -> None:
    found = {finding.subject: finding for finding in sandbox_findings(Settings(), {"HOME": "/nowhere"})}
    assert {"landlock", "seccomp"} <= set(found)
    assert (found["landlock"].severity == "ok") == bool(landlock_abi())
    assert all(finding.severity == "ok" or finding.next_step for finding in found.values())


DEGRADED = [
    (landlock_finding(0), "note", "may open every file that their user may"),
    (
        landlock_finding(3),
        "note",
        "TCP is not held; filters have no sockets all the same, by seccomp; children may send",
    ),
    (landlock_finding(4), "note", "children may send signals to other processes of this user"),
    (landlock_finding(7), "ok", "filters reach no files and no network"),
    (seccomp_finding(offered=True, known=True), "ok", "filters can make no sockets"),
    (seccomp_finding(offered=False, known=True), "note", "not offered by this kernel: a filter that is taken over"),
    (seccomp_finding(offered=True, known=False), "note", "call numbers of"),
]


@pytest.mark.parametrize(("finding", "severity", "says"), DEGRADED, ids=[row[0].evidence[:40] for row in DEGRADED])
def test_every_layer_that_is_missing_is_named_with_what_it_means(finding: Finding, severity: str, says: str) -> None:
    assert finding.severity == severity and says in finding.evidence
    assert finding.severity == "ok" or finding.next_step or "call numbers" in finding.evidence


def test_what_the_server_would_be_held_to_is_said(tmp_path: Path) -> None:
    def found(**settings: Any) -> Finding:
        listed = sandbox_findings(Settings(**settings), {"HOME": str(tmp_path)})
        return {finding.subject: finding for finding in listed}["confinement"]

    assert found(confine="none").severity == "note" and "confine is none" in found(confine="none").evidence
    assert (found().severity == "ok") == bool(landlock_abi())


def test_a_launcher_that_does_not_start_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launcher_finding().severity == "ok"
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    finding = launcher_finding()
    assert finding.severity == "problem" and "the launcher cannot be started" in finding.evidence
