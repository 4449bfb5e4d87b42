"""What ``doctor`` finds on the host: each finding that is more than a fact says what to do."""

from __future__ import annotations

import resource
from pathlib import Path

from obi_mcp.audit import AuditEntry, AuditLog
from obi_mcp.cli import findings
from obi_mcp.cli.findings import Finding
from obi_mcp.config import Audit, Programs, Settings
from obi_mcp.policy.model import Access
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
    found = {finding.subject: finding for finding in findings.sandbox_findings()}
    assert {"landlock", "seccomp"} <= set(found)
    assert (found["landlock"].severity == "ok") == bool(landlock_abi())
    assert all(finding.severity == "ok" or finding.next_step for finding in found.values())
