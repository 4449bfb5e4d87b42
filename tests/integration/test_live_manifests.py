"""Every manifest attack for real: at ``full``, with cluster-admin, against OBI's own set as it stands in a cluster.

The data of ``tests/cases/manifests/attacks`` is judged one by one in unit tests. Here each goes through the real server
to a real API server, as a document and, where it can be one, as a patch of what is there: so that what the text does
not show is judged as the API server would store it. Nothing may change, and no canary may be seen.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.integration import test_helm_road, test_planted, test_racing_writer
from tests.integration.conftest import Outcome, Serve, Session
from tests.sandbox.api import wait_until
from tests.sandbox.sandbox import Sandbox
from tests.unit.policy.manifest_cases import CASES, attacks, body_of, put

from obi_mcp.policy.pins import merge_patch

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

NAMESPACE = "obi"
IN_FLIGHT = 8
CANARY = "CANARY-live-manifests"
CHARTS = CASES.parent / "charts"
VERBS = ("apply -f -", "apply --server-side -f -", "create -f -", "replace -f -", "diff -f -")
WATCHED = (
    *(f"/api/v1/namespaces/{NAMESPACE}/{kind}" for kind in ("configmaps", "secrets", "services", "serviceaccounts")),
    *(f"/apis/apps/v1/namespaces/{NAMESPACE}/{kind}" for kind in ("daemonsets", "deployments")),
    *(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/{kind}" for kind in ("roles", "rolebindings")),
    *(f"/apis/monitoring.coreos.com/v1/namespaces/{NAMESPACE}/{kind}" for kind in ("servicemonitors", "podmonitors")),
    f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies",
    f"/apis/policy/v1/namespaces/{NAMESPACE}/poddisruptionbudgets",
    f"/apis/autoscaling/v2/namespaces/{NAMESPACE}/horizontalpodautoscalers",
    "/api/v1/namespaces",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
)
"""Everything that an attack could make or change."""


@dataclass(frozen=True)
class Attack:
    """One call that has to be refused."""

    technique: str
    command: str
    stdin: str | None = None


@dataclass(frozen=True)
class Standing:
    """A cluster in which OBI's set stands, with somebody else's objects beside it."""

    sandbox: Sandbox
    programs: Path

    def kubectl(self, *arguments: str, stdin: Any = None) -> str:
        """Somebody who may do everything."""
        command = [str(self.programs / "kubectl"), f"--kubeconfig={self.sandbox.kubeconfig}", *arguments]
        text = stdin if isinstance(stdin, str) else json.dumps(stdin)
        return subprocess.run(command, input=text, check=True, capture_output=True, text=True).stdout

    def fingerprints(self) -> dict[str, str]:
        """A digest of what could be changed of each object, by its path."""
        found = {}
        for path in WATCHED:
            for body in self.sandbox.api.get(path).require(f"list {path}")["items"]:
                metadata = body["metadata"]
                kept = {key: value for key, value in body.items() if key not in {"metadata", "status"}}
                kept |= {key: metadata.get(key) for key in ("uid", "labels", "ownerReferences", "finalizers")}
                kept["annotations"] = {
                    key: value for key, value in (metadata.get("annotations") or {}).items() if "deployment." not in key
                }
                found[f"{path}/{metadata['name']}"] = hashlib.sha256(
                    json.dumps(kept, sort_keys=True).encode()
                ).hexdigest()
        return found


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """One of this module's own, with the definitions of Prometheus's operator."""
    with Sandbox.up(f"manifests-{os.getpid()}", real_node=False) as running:
        yield running


@pytest.fixture(scope="module")
def standing(sandbox: Sandbox, programs_bin: Path) -> Standing:
    made = Standing(sandbox, programs_bin)
    for definition in (monitor("ServiceMonitor"), monitor("PodMonitor")):
        made.kubectl("create", "-f", "-", stdin=definition)
    wait_until_monitored(sandbox)
    # The sandbox's own role would bear the name of the set's.
    made.kubectl("delete", "clusterrole,clusterrolebinding", "obi", "--ignore-not-found")
    return made


def wait_until_monitored(sandbox: Sandbox, *plurals: str) -> None:
    """Waits until kubectl finds these kinds of the Prometheus operator; without any, both."""
    wanted = plurals or ("servicemonitors", "podmonitors")
    wait_until(
        "kubectl finds the kinds", lambda: sandbox.api.serves("monitoring.coreos.com", "v1", *wanted), within_s=180
    )


def monitor(kind: str) -> dict[str, Any]:
    """The least definition of a kind of the Prometheus operator, which defaults what an operator's could."""
    plural = f"{kind.lower()}s"
    schema: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    anywhere = {"type": "boolean", "default": True}
    schema["properties"] = {
        "spec": {
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": True,
            "properties": {
                "namespaceSelector": {"type": "object", "properties": {"matchNames": NAMES, "any": {"type": "boolean"}}}
            },
        }
    }
    if kind == "PodMonitor":
        schema["properties"]["spec"]["properties"]["namespaceSelector"]["properties"]["any"] = anywhere
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"kind": kind, "plural": plural, "singular": kind.lower()}
    spec = {"group": "monitoring.coreos.com", "scope": "Namespaced", "names": names, "versions": [version]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.monitoring.coreos.com",
            "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"},
        },
        "spec": spec,
    }


NAMES = {"type": "array", "items": {"type": "string"}}


def foreign() -> list[dict[str, Any]]:
    """What somebody else has in OBI's namespace."""
    shop = {"app": "shop"}
    mine = {"app.kubernetes.io/part-of": "obi", "app.kubernetes.io/component": "impostor"}

    def workload(name: str, labels: dict[str, str]) -> dict[str, Any]:
        container = {"name": "shop", "image": "registry.test/shop:1", "env": [{"name": "TOKEN", "value": CANARY}]}
        return {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"nodeSelector": {"no": "node"}, "containers": [container]},
                },
            },
        }

    settings = {"name": "shop-settings", "namespace": NAMESPACE, "labels": shop}
    role = {"name": "shop", "namespace": NAMESPACE, "labels": shop}
    rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": settings, "data": {"token": CANARY}},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": role, "rules": rules},
        workload("shop", shop),
        workload("obi-impostor", mine),
    ]


# --- the attacks ---


def documents() -> Iterator[Attack]:
    """Each attack as a document, to every verb that reads one."""
    for name in ("pods", "objects"):
        for attack in attacks(name):
            body = attack.get("document") or changed(attack)
            yield from (Attack(attack["technique"], f"kubectl {verb}", json.dumps(body)) for verb in VERBS)
    for attack in attacks("environment"):
        body = body_of("DaemonSet")
        container(body)["env"].append(attack["put"])
        yield from (Attack("environment", f"kubectl {verb}", json.dumps(body)) for verb in VERBS)


def patches() -> Iterator[Attack]:
    """Each attack that changes a good object, as a patch of the live one."""
    for name in ("pods", "objects"):
        for attack in attacks(name):
            if "document" in attack or attack["technique"] in NOT_PATCHES or attack["name"] in HARMLESS:
                continue
            body = changed(attack)
            # Exactly what makes the attack of the good object: what is missing in it is null in the patch.
            yield patch_of(attack["technique"], body, "merge", merge_patch(body_of(body["kind"]), body))
            if all(isinstance(step, str) for step in attack["at"]):
                pointer = "".join(f"/{step.replace('~', '~0').replace('/', '~1')}" for step in attack["at"])
                operation = {"op": "add", "path": pointer, "value": attack["put"]}
                yield patch_of(attack["technique"], body, "json", [operation])
    for attack in attacks("environment"):
        if attack["name"] in HARMLESS:
            continue
        body = body_of("DaemonSet")
        strategic = {"name": "obi", "env": [attack["put"]]}
        patch = {"spec": {"template": {"spec": {"containers": [strategic]}}}}
        yield patch_of("environment", body, "strategic", patch)


NOT_PATCHES = frozenset({"kind", "place", "taking over"})
"""Attacks that are about which object is written: as a patch they would name another."""

HARMLESS = frozenset({"label that is null", "target port out of range", "twice"})
"""Attacks that are none as a patch: null removes what is not there, 0 is the default, and a variable is replaced."""


def changed(attack: dict[str, Any]) -> dict[str, Any]:
    body = body_of(attack.get("base", "DaemonSet"))
    put(body, attack["at"], attack["put"])
    return body


def container(body: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = body["spec"]["template"]["spec"]["containers"][0]
    return found


def patch_of(technique: str, body: dict[str, Any], kind: str, patch: Any) -> Attack:
    quoted = json.dumps(patch).replace("'", "\\u0027")
    name = body_of(body["kind"])["metadata"]["name"]
    place = f" -n {NAMESPACE}" if body["metadata"].get("namespace") else ""
    return Attack(technique, f"kubectl patch {body['kind'].lower()} {name}{place} --type={kind} -p '{quoted}'")


def live() -> Iterator[Attack]:
    for attack in attacks("live"):
        for command in attack["commands"]:
            yield Attack(attack["technique"], command.replace("{canary}", CANARY), attack.get("stdin"))


async def run(session: Session, wanted: Sequence[Attack]) -> list[tuple[Attack, Outcome]]:
    gate = asyncio.Semaphore(IN_FLIGHT)

    async def one(attack: Attack) -> tuple[Attack, Outcome]:
        async with gate:
            more = {"stdin": attack.stdin} if attack.stdin is not None else {}
            return attack, await session.call("obi_kubectl", attack.command, **more)

    return list(await asyncio.gather(*(one(attack) for attack in wanted)))


async def test_every_attack_is_refused_and_leaves_everything_as_it_was(serve: Serve, standing: Standing) -> None:
    good = (CASES / "good" / "complete.yaml").read_text("utf-8")
    wanted = [*documents(), *patches(), *live()]
    async with serve("full") as session:
        made = await session.kubectl("apply -f -", stdin=good)
        assert not made.is_error and made.structured["exit_code"] == 0, made.text
        for body in foreign():
            standing.kubectl("create", "-f", "-", stdin=body)
        before = standing.fingerprints()
        ran = await run(session, wanted)
        after = standing.fingerprints()
        audit = session.audit.read_text("utf-8")

    # What the API server does not know it leaves out, and says that nothing changed; before and after show it, too.
    passed = [
        (attack, outcome)
        for attack, outcome in ran
        if not outcome.is_error and not ("patch" in attack.command and "(no change)" in outcome.stdout)
    ]
    print(
        "PASSED",
        *(
            f"{attack.technique}: {attack.command[:90]} … {attack.command[-330:]} => {outcome.stdout[:200]}"
            for attack, outcome in passed
        ),
        sep="\nPP ",
    )
    assert [(attack.technique, attack.command, outcome.stdout[:300]) for attack, outcome in passed] == []
    assert {path for path in {*before, *after} if before.get(path) != after.get(path)} == set()
    assert [attack.command for attack, outcome in ran if CANARY in json.dumps(outcome.structured) + outcome.text] == []
    texts = [canary["text"] for canary in standing.sandbox.facts["canaries"]]
    assert [text for text in (*texts, "CANARY-shop") if text in audit] == []
    assert len(ran) > 1_000


# --- charts and releases ---


def sub_chart(store: Path, files: dict[str, str]) -> None:
    """A chart by OBI's name that makes nothing itself; its dependency has these files."""
    chart = store / "obi"
    evil = chart / "charts" / "evil"
    for folder in (chart / "templates", evil / "templates"):
        folder.mkdir(parents=True)
    shutil.copy(CHARTS / "hook" / "obi" / "Chart.yaml", chart / "Chart.yaml")
    (chart / "templates" / "none.yaml").write_text("", "utf-8")
    (evil / "Chart.yaml").write_text("apiVersion: v2\nname: evil\nversion: 0.1.0\n", "utf-8")
    for name, text in files.items():
        path = evil / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: obi, labels: {app: obi}}\n"
JOB = (
    "apiVersion: batch/v1\nkind: Job\nmetadata: {name: obi, labels: {app: obi}, annotations: "
    "{helm.sh/hook: pre-upgrade}}\n"
    "spec: {template: {spec: {restartPolicy: Never, containers: [{name: a, image: a}]}}}\n"
)
CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: obi-x, labels: {app: obi}}\ndata: {a.yml: 'level: %s'}\n"
LOOKUP = CONFIG % '{{ (lookup "v1" "ConfigMap" "obi" "shop-settings").data.token }}'
TEXT = '"(loo" "kup `v1` `ConfigMap` `obi` `shop-settings`).data.token }}"'
COMPUTED = CONFIG % f"{{{{ $o := toJson dict | trunc 1 }}}}{{{{ tpl (print $o $o {TEXT}) . }}}}"
DEFINITION = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: obis.x.io}\n"


@pytest.mark.parametrize(
    "files",
    [
        {"templates/a.yaml": SECRET},
        {"templates/a.yaml": JOB},
        {"templates/a.yaml": LOOKUP},
        {"templates/a.yaml": COMPUTED},
        {"templates/_helpers.tpl": '{{ define "x" }}{{ lookup "v1" "Secret" "" "" }}{{ end }}'},
        {"crds/a.yaml": DEFINITION},
        {
            "charts/deeper/Chart.yaml": "apiVersion: v2\nname: deeper\nversion: 0.1.0\n",
            "charts/deeper/crds/a.yaml": "a: 1",
        },
    ],
    ids=[
        "a Secret",
        "a hook",
        "lookup",
        "computed lookup",
        "lookup in a helper",
        "definitions",
        "definitions further down",
    ],
)
async def test_what_a_sub_chart_brings_is_refused(
    serve: Serve, standing: Standing, tmp_path: Path, files: dict[str, str]
) -> None:
    sub_chart(tmp_path / "store", files)
    before = standing.fingerprints()
    async with serve("full", OBI_MCP_PROGRAMS__CHART_STORE=str(tmp_path / "store")) as session:
        ran = [await session.helm(f"{verb} obi obi -n obi") for verb in ("install", "upgrade --install", "template")]
    assert [(outcome.is_error, outcome.code) for outcome in ran] == [(True, "denied")] * 3, [one.text for one in ran]
    assert CANARY not in "".join(json.dumps(one.structured) + one.text for one in ran)
    assert standing.fingerprints() == before


# Every technique that issue 4 names, and where it is tried: data above, or a test that plants what it needs.
NAMED = {
    "second, init and ephemeral containers": "another container",
    "lifecycle and probe exec": "execution",
    "environment": "environment",
    "volumes": "host path",
    "projected tokens": "token",
    "List wrappers": "List wrappers",
    "duplicate keys": "duplicate keys",
    "anchors": "anchors",
    "tags": "tags",
    "wrong case": "wrong case",
    "what the API server defaults": "defaults of the API server",
    "strategic-merge directives": "strategic-merge directives",
    "JSON patches": "JSON patches",
    "server-side apply with force": "server-side apply with force",
    "relabelling a foreign object into scope": "relabelling",
    "ownerReferences": "ownerReferences",
    "prune": "prune",
    "OBI configuration that itself does harm": "configuration",
    "helm hooks": test_helm_road.test_a_chart_is_refused_by_what_it_renders_or_uses,
    "lookup": test_helm_road.test_a_chart_is_refused_by_what_it_renders_or_uses,
    "CRD folders": test_helm_road.test_a_chart_is_refused_by_what_it_renders_or_uses,
    "sub-charts": test_what_a_sub_chart_brings_is_refused,
    "reused values": test_planted.test_values_that_a_release_is_stored_with_run_no_template,
    "roll back to a poisoned revision": test_planted.test_an_object_that_was_written_into_a_release_is_not_touched,
    "undo to a poisoned revision": test_racing_writer.test_undo_brings_back_the_template_that_was_judged,
}


def test_every_technique_that_was_named_is_tried() -> None:
    tried = {attack.technique for attack in (*documents(), *patches(), *live())}
    assert {where for where in NAMED.values() if isinstance(where, str)} <= tried
