"""What quotas and limit ranges say to so many pods of OBI's."""

from __future__ import annotations

from typing import Any

import pytest

from obi_mcp.obi.bounds import Wanted, limit_findings, quota_findings

WANTED = Wanted(4, {"cpu": "100m", "memory": "512Mi"}, {"memory": "2Gi"})


def _quota(hard: dict[str, str], used: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "team"}, "spec": {"hard": hard, **spec}, "status": {"hard": hard, "used": used or {}}}


def _range(kind: str, **limits: Any) -> dict[str, Any]:
    return {"metadata": {"name": "small"}, "spec": {"limits": [{"type": kind, **limits}]}}


@pytest.mark.parametrize(
    ("quota", "said"),
    [
        (_quota({"pods": "6"}, {"pods": "2"}), []),
        (_quota({"pods": "6"}, {"pods": "3"}), ["leaves 3 of pods; 4 more pods of OBI's want 4"]),
        (_quota({"count/pods": "1"}, {"count/pods": "5"}), ["leaves 0 of count/pods; 4 more pods of OBI's want 4"]),
        (_quota({"requests.memory": "2Gi"}), []),
        (_quota({"memory": "1Gi"}), ["leaves 1024Mi of memory; 4 more pods of OBI's want 2048Mi"]),
        (_quota({"cpu": "1"}, {"cpu": "700m"}), ["leaves 0.3 of cpu; 4 more pods of OBI's want 0.4"]),
        (_quota({"limits.memory": "4Gi"}), ["leaves 4096Mi of limits.memory; 4 more pods of OBI's want 8192Mi"]),
        (_quota({"limits.cpu": "64"}), ["wants limits.cpu of every container, and OBI's has none"]),
        (_quota({"configmaps": "0", "requests.nvidia.com/gpu": "0", "requests.storage": "1Gi"}), []),
        (_quota({"pods": "0"}, scopes=["BestEffort"]), []),
        (_quota({"pods": "0"}, scopeSelector={"matchExpressions": []}), []),
    ],
)
def test_quota(quota: dict[str, Any], said: list[str]) -> None:
    assert [finding.what for finding in quota_findings([quota], WANTED)] == [f"the quota team {text}" for text in said]
    assert quota_findings([quota], Wanted(0)) == []


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        (_range("Container", max={"memory": "2Gi"}, min={"cpu": "50m"}), []),
        (_range("Container", max={"memory": "256Mi"}), ["allows at most 256Mi of memory, and OBI's limit is 2Gi"]),
        (_range("Pod", min={"cpu": "1"}), ["wants at least 1 of cpu, and OBI requests 100m"]),
        (_range("PersistentVolumeClaim", max={"storage": "1Gi"}), []),
    ],
)
def test_limit_range(bounds: dict[str, Any], said: list[str]) -> None:
    found = [finding.what for finding in limit_findings([bounds], WANTED)]
    assert found == [f"the limit range small {text}" for text in said]
