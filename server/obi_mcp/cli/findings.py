"""What ``doctor`` finds on this host, without asking a cluster: settings, policy, audit log, limits."""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from obi_mcp.audit_chain import verify
from obi_mcp.config import Settings
from obi_mcp.errors import ObiMcpError
from obi_mcp.policy.shipped import shipped_charts
from obi_mcp.process.kubeconfig import SERVICE_ACCOUNT, Kubeconfig, file_error, kubeconfig_paths
from obi_mcp.process.obstacle import no_kubeconfig
from obi_mcp.toolsets.registry import ALL, enabled_toolsets, left_out

Severity = Literal["ok", "note", "problem"]

CALLER = "obi-mcp doctor"
_OF_CLUSTERS = frozenset({"command", "kubernetes", "helm", ALL})
LEAST_FILES = 512
"""Open files that sixteen commands with their pipes, and the warm channels, may need."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what was seen, and what to do about it where something is to be done."""

    subject: str
    severity: Severity
    evidence: str
    next_step: str | None = None

    def as_json(self) -> dict[str, str | None]:
        return {
            "subject": self.subject,
            "severity": self.severity,
            "evidence": self.evidence,
            "next_step": self.next_step,
        }


def of_error(subject: str, error: ObiMcpError, severity: Severity = "problem") -> Finding:
    """The finding that an error is."""
    return Finding(subject, severity, error.message, error.hint)


def settings_finding(settings: Settings) -> Finding:
    """Which file the settings came from, and the level."""
    source = f"from {settings.source}" if settings.source else "defaults, environment and flags; no file was found"
    return Finding("settings", "ok", f"{source}; access level {settings.access.label}")


def toolset_findings(settings: Settings) -> Iterator[Finding]:
    """Which groups of tools are offered, and which are left out and why."""
    yield Finding("toolsets", "ok", ", ".join(toolset.name for toolset in enabled_toolsets(settings)))
    for name, reason in left_out(settings).items():
        yield Finding(f"toolset {name}", "note", f"left out: {reason}")


def policy_finding(settings: Settings) -> Finding:
    """Whether every rule is valid and every example holds."""
    from obi_mcp.policy.engine import Policy

    try:
        Policy.load(settings)
    except ObiMcpError as error:
        return of_error("policy", error)
    own = f", with your rules in {settings.policy_directory}" if settings.policy_directory else ""
    return Finding("policy", "ok", f"every rule is valid and every example holds{own}")


def missing_kubeconfig(settings: Settings, environ: Mapping[str, str]) -> ObiMcpError | None:
    """That no kubeconfig file is there, and no pod's account in its stead; None where one of them is."""
    files = kubeconfig_paths(settings.programs.kubeconfig, environ)
    missing = tuple(file for file in files if not os.path.exists(file))
    return no_kubeconfig(Kubeconfig(files, missing=missing), environ) if len(missing) == len(files) else None


def kubeconfig_findings(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether the kubeconfig files that kubectl will read are there, readable, and nobody else's to read."""
    subject = "kubeconfig file"
    nothing = missing_kubeconfig(settings, environ)
    if nothing is not None:
        severity: Severity = "problem" if _OF_CLUSTERS & set(settings.toolsets) else "note"
        step = f"{nothing.hint}; where there is no cluster: --toolsets local"
        yield Finding(subject, severity, nothing.message, step)
        return
    files = kubeconfig_paths(settings.programs.kubeconfig, environ)
    if not any(map(os.path.exists, files)):
        yield Finding(subject, "ok", f"none; the account of this pod, in {SERVICE_ACCOUNT}")
        return
    for file in map(Path, files):
        error = file_error(str(file), environ)
        if error is not None:
            yield of_error(subject, error)
        elif file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
            yield Finding(subject, "note", f"{file} may be read by others", f"chmod 600 {file}")
        else:
            yield Finding(subject, "ok", str(file))


def audit_finding(settings: Settings) -> Finding:
    """Whether the audit log can be written and is as it was left. Takes no lock, so that a server may be running."""
    if settings.audit.file is None:
        return Finding(
            "audit log",
            "note",
            "goes to standard error, where a client may drop it",
            "name a file: --audit-file, audit.file",
        )
    file = Path(settings.audit.file)
    try:
        if not file.exists():
            return _audit_place(file)
        found = verify(file)
    except ObiMcpError as error:
        return of_error("audit log", error)
    if not found.good:
        where = f"line {found.line} " if found.line else ""
        return Finding(
            "audit log",
            "problem",
            f"{file}: {where}{found.problem}",
            "keep a copy, find out who, move it and its head away",
        )
    return Finding("audit log", "ok", f"{file}: {found.lines} lines, each as it was written")


def _audit_place(file: Path) -> Finding:
    if os.access(file.parent, os.W_OK | os.X_OK):
        return Finding("audit log", "ok", f"{file} will be made")
    return Finding(
        "audit log",
        "problem",
        f"{file.parent} is no directory that may be written",
        "make it, or name another --audit-file",
    )


def chart_finding(settings: Settings) -> Finding:
    """Whether there are charts that may be installed."""
    store = Path(settings.programs.chart_store) if settings.programs.chart_store else shipped_charts()
    charts = sorted(path.parent.name for path in store.glob("*/Chart.yaml")) if store.is_dir() else []
    archives = sorted(path.name for path in store.glob("*.tgz")) if store.is_dir() else []
    if charts or archives:
        return Finding("chart store", "ok", f"{store}: {', '.join([*charts, *archives])}")
    configured = settings.programs.chart_store is not None
    return Finding(
        "chart store",
        "problem" if configured else "note",
        f"{store} holds no chart",
        "put charts there, or correct programs.chart_store" if configured else "helm install needs scope.repositories",
    )


def limit_findings(settings: Settings) -> Iterator[Finding]:
    """What the server allows itself and what the host allows the server."""
    limits = settings.limits
    yield Finding(
        "limits",
        "ok",
        f"{limits.timeout_s:g} s (at most {limits.max_timeout_s:g}), {limits.max_bytes:,} bytes "
        f"(at most {limits.max_max_bytes:,}), {limits.max_children} commands at once",
    )
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = soft == resource.RLIM_INFINITY or soft >= LEAST_FILES
    yield Finding(
        "open files",
        "ok" if enough else "note",
        "no limit" if soft == resource.RLIM_INFINITY else f"{soft} at most",
        None if enough else f"raise it to {LEAST_FILES}: ulimit -n, or --ulimit nofile={LEAST_FILES} for the container",
    )
