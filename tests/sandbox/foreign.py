"""What is not OBI's in the sandbox, in a form that two moments can be compared by."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tests.sandbox.api import Api
from tests.sandbox.contents import NAMESPACES, OBI_LABEL

_CORE = ("secrets", "configmaps", "pods", "services", "serviceaccounts")
_APPS = ("deployments", "statefulsets", "daemonsets")
_PATHS = (
    *(f"/api/v1/namespaces/{namespace}/{kind}" for namespace in NAMESPACES for kind in _CORE),
    *(f"/apis/apps/v1/namespaces/{namespace}/{kind}" for namespace in NAMESPACES for kind in _APPS),
    "/api/v1/namespaces",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
)


def fingerprints(api: Api) -> dict[str, str]:
    """A digest of each foreign object, by its path; status and bookkeeping are left out. Raises: SandboxError.

    Secrets of helm releases are left out too: helm writes them for OBI.
    """
    found = {}
    for path in _PATHS:
        for document in api.get(path).require(f"list {path}")["items"]:
            if not _is_obis(document):
                found[f"{path}/{document['metadata']['name']}"] = _digest(document)
    return found


def _is_obis(document: dict[str, Any]) -> bool:
    name, value = OBI_LABEL
    labels = document["metadata"].get("labels") or {}
    return labels.get(name) == value or document.get("type") == "helm.sh/release.v1"


def _digest(document: dict[str, Any]) -> str:
    """Of what somebody could have changed."""
    metadata = document["metadata"]
    kept = {name: value for name, value in document.items() if name not in {"metadata", "status"}}
    kept |= {name: metadata.get(name) for name in ("uid", "labels", "ownerReferences", "deletionTimestamp")}
    # The deployment controller numbers revisions here.
    kept["annotations"] = {
        name: value for name, value in (metadata.get("annotations") or {}).items() if not name.startswith("deployment.")
    }
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
