"""The table of kinds: every spelling kubectl takes, no spelling it does not, and the shipped data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from obi_mcp.policy.expressions.paths import paths_for
from obi_mcp.policy.resource import ResourceEntry, ResourceTable

POLICY = Path(__file__).parents[3] / "policy"
DATA: dict[str, Any] = yaml.safe_load((POLICY / "resources.yaml").read_text())
TABLE = ResourceTable.from_data(DATA)


@pytest.mark.parametrize(
    ("word", "argument"),
    [
        ("pods", "pods.v1."),
        ("pod", "pods.v1."),
        ("po", "pods.v1."),
        ("Pod", "pods.v1."),
        ("PODS", "pods.v1."),
        ("pods.v1.", "pods.v1."),
        ("po.v1.", "pods.v1."),
        ("Pod.v1.", "pods.v1."),
        ("PO", None),
        ("pods.v1", None),
        ("pods.", None),
        ("pods/log", None),
        ("all", None),
        ("", None),
        (".", None),
        ("po ds", None),
        ("p\u043eds", None),
        ("deployments.apps", "deployments.v1.apps"),
        ("deploy.apps", "deployments.v1.apps"),
        ("deploy.v1.apps", "deployments.v1.apps"),
        ("Deployment.apps", "deployments.v1.apps"),
        ("deployments.v1beta1.apps", None),
        ("deployments.app", None),
        ("deployments.APPS", None),
        ("daemonsets.extensions", None),
        ("cm", "configmaps.v1."),
        ("configmaps.example.com", None),
        ("no", "nodes.v1."),
        ("events", "events.v1."),
        ("events.events.k8s.io", None),
        ("hpa", "horizontalpodautoscalers.v2.autoscaling"),
        ("hpa.v1.autoscaling", None),
        ("podmetrics", "pods.v1beta1.metrics.k8s.io"),
        ("pods.metrics.k8s.io", "pods.v1beta1.metrics.k8s.io"),
        ("nodes.metrics.k8s.io", "nodes.v1beta1.metrics.k8s.io"),
        ("smon", "servicemonitors.v1.monitoring.coreos.com"),
        ("netpol", "networkpolicies.v1.networking.k8s.io"),
        ("endpointslices", "endpointslices.v1.discovery.k8s.io"),
        ("SECRETS", "secrets.v1."),
        ("secret.v1.", "secrets.v1."),
        ("crd", "customresourcedefinitions.v1.apiextensions.k8s.io"),
    ],
)
def test_find(word: str, argument: str | None) -> None:
    entry = TABLE.find(word)
    assert (entry.resource.argument if entry else None) == argument


@pytest.mark.parametrize("entry", TABLE.entries, ids=lambda entry: str(entry.resource.argument))
def test_every_entry_is_found_by_its_own_argument_and_names(entry: ResourceEntry) -> None:
    resource = entry.resource
    assert TABLE.find(resource.argument) == entry
    assert all(TABLE.find(name) == entry for name in resource.names)
    api_version = f"{resource.group}/{resource.version}" if resource.group else resource.version
    assert TABLE.for_object(api_version, resource.kind) == entry
    if entry.reading == "never":
        assert entry.because and not entry.paths and not entry.written
    else:
        assert paths_for([entry]).nodes


READ_AS_OBI = (
    "pods daemonsets deployments replicasets controllerrevisions services endpoints endpointslices configmaps "
    "serviceaccounts events roles rolebindings clusterroles clusterrolebindings servicemonitors podmonitors "
    "networkpolicies poddisruptionbudgets horizontalpodautoscalers podmetrics"
)
READ_AS_STATUS = "pods deployments replicasets statefulsets horizontalpodautoscalers resourcequotas limitranges events"
WRITTEN = (
    "namespaces serviceaccounts configmaps services daemonsets deployments roles clusterroles rolebindings "
    "clusterrolebindings servicemonitors podmonitors networkpolicies poddisruptionbudgets horizontalpodautoscalers"
)


@pytest.mark.parametrize(
    ("words", "quality"),
    [
        (READ_AS_OBI, "read_as_obi"),
        (READ_AS_STATUS, "read_as_status"),
        ("nodes namespaces priorityclasses", "read_as_fact"),
        (WRITTEN, "written"),
    ],
)
def test_the_kinds_are_those_of_the_policy(words: str, quality: str) -> None:
    expected = {entry.resource.argument for word in words.split() if (entry := TABLE.find(word))}
    assert len(expected) == len(words.split())
    assert {entry.resource.argument for entry in TABLE.entries if getattr(entry, quality)} == expected


def test_the_data_follows_its_schema() -> None:
    schema = json.loads((POLICY / "schema" / "resources.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(DATA)


def test_the_table_survives_json() -> None:
    again = ResourceTable.from_data(json.loads(json.dumps(DATA)))
    assert again.entries == TABLE.entries


@pytest.mark.parametrize("change", [{"reading": "maybe"}, {"kind": None}, {"short": 3}])
def test_a_wrong_entry_is_named(change: dict[str, Any]) -> None:
    wrong = {**DATA, "resources": [{**DATA["resources"][0], **change}]}
    with pytest.raises(ValueError, match="pods"):
        ResourceTable.from_data(wrong)
