"""The labels of an installation: upstream's own, so that every tool that knows OBI knows ours."""

from __future__ import annotations

import re

from obi_mcp.obi.manifests.install import Install

MANAGED_BY = "obi-mcp"
"""The value of app.kubernetes.io/managed-by that marks what we deployed, and what ``obi_k8s_undeploy`` may remove."""
_NO_LABEL = re.compile(r"[^A-Za-z0-9._-]")


def labels_of(install: Install, component: str, *, name: str = "obi") -> dict[str, str]:
    """The labels of one object; ``component`` as upstream's chart has it: rbac, config, workload."""
    return {
        **selector_of(install, name=name),
        "app.kubernetes.io/version": _NO_LABEL.sub("_", install.version)[:63],
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": "obi",
        "app.kubernetes.io/managed-by": MANAGED_BY,
    }


def selector_of(install: Install, *, name: str = "obi") -> dict[str, str]:
    """What selects the pods; it never changes, because a workload's selector cannot."""
    return {"app.kubernetes.io/name": name, "app.kubernetes.io/instance": install.name}
