"""The server under exactly the rights that ``obi-mcp rbac`` writes: what its level needs works, what is above it the
cluster itself refuses, whatever access the server was started with, and none of the rules could be left out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration.accounts import Account, Administrator, account, remove
from tests.integration.conftest import Outcome, Serve, Session
from tests.integration.test_kubernetes import ask
from tests.integration.test_live_manifests import monitor, wait_until_monitored
from tests.sandbox.api import Api, wait_until
from tests.sandbox.everything import everything
from tests.sandbox.sandbox import Sandbox
from tests.unit.policy.manifest_cases import body_of

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

SPACE = "observability"
CACHE = "opentelemetry-ebpf-instrumentation-k8s-cache"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


@pytest.fixture
def administrator(sandbox: Sandbox, programs_bin: Path) -> Administrator:
    return Administrator(sandbox, programs_bin)


@contextmanager
def rights(
    administrator: Administrator, directory: Path, access: str, *flags: str, namespace: str = SPACE
) -> Iterator[Account]:
    made = account(administrator, directory, access, namespace, *flags)
    try:
        yield made
    finally:
        remove(administrator, made)


READS = (
    f"get pods -n {SPACE} -o json | jq '.items | length'",
    f"logs -n {SPACE} -l app.kubernetes.io/part-of=obi --tail=5",
    f"get ds,cm,svc -n {SPACE} -o json",
    "get nodes -o wide",
    f"describe ds obi -n {SPACE}",
    f"rollout status ds/obi -n {SPACE} --timeout=100s",
    f"top pods -n {SPACE} -l app.kubernetes.io/part-of=obi",
)
LOOKS = ("obi_k8s_status", "obi_k8s_logs", "obi_k8s_aggregate_metrics")


# --- more access than rights ---

GIVEN = "obi-mcp rbac --access {} --namespace observability`"
CONFIG_MAP = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "obi-rights", "namespace": SPACE, "labels": {"app.kubernetes.io/part-of": "obi"}},
    "data": {"obi.yml": "open_port: 8080\nprometheus_export: {port: 9400}\n"},
}
REFUSED_COMMANDS = (
    (f"rollout restart ds/obi -n {SPACE}", None, "patch daemonsets.apps", "non-destructive"),
    (f"label ds obi team=a -n {SPACE}", None, "patch daemonsets.apps", "non-destructive"),
    (f"set image ds/obi ebpf-instrument=otel/ebpf-instrument:v1 -n {SPACE}", None, "patch daemonsets", "non-destr"),
    ("apply -f -", CONFIG_MAP, "create configmaps", "non-destructive"),
    (f"delete ds obi -n {SPACE}", None, "delete daemonsets.apps", "full"),
    (f"delete cm obi -n {SPACE}", None, "delete configmaps", "full"),
)
REFUSED_TOOLS = (
    ("obi_k8s_deploy", {"name": "beyla", "namespace": SPACE}, "create", "non-destructive"),
    ("obi_k8s_config", {"patch": {"log_level": "DEBUG"}}, "patch configmaps", "non-destructive"),
    ("obi_k8s_upgrade", {"version": "v0.12.0"}, "patch daemonsets.apps", "non-destructive"),
)


async def test_full_access_is_not_possible_with_the_rights_of_read_only(
    serve: Serve, sandbox: Sandbox, administrator: Administrator, tmp_path: Path
) -> None:
    """Each step that writes says which right is missing, and which role has it."""
    with rights(administrator, tmp_path, "read-only", "--no-helm") as made:
        async with serve("full", **made.settings) as session:
            for command in READS:
                outcome = await session.kubectl(command)
                assert not outcome.is_error and not outcome.structured["exit_code"], f"{command}: {outcome.text}"
            for tool in LOOKS:
                _, text, failed = await ask(session, tool, namespace=SPACE)
                assert not failed, text
            _, place = sandbox.requests()
            for command, stdin, right, level in REFUSED_COMMANDS:
                outcome = await session.kubectl(command, **({"stdin": json.dumps(stdin)} if stdin else {}))
                assert outcome.is_error or outcome.structured["exit_code"], command
                assert f"may not {right}" in outcome.text, f"{command}: {outcome.text}"
                assert GIVEN.format(level)[:-1].split(" --namespace")[0] in outcome.text, outcome.text
            for tool, arguments, right, level in REFUSED_TOOLS:
                structured, text, failed = await ask(session, tool, **arguments)
                assert failed and f"may not {right}" in structured["hint"], text
                assert GIVEN.format(level) in structured["hint"], text
            seen, text, failed = await ask(session, "obi_k8s_preflight", namespace=SPACE)
            assert not failed and not seen["ready"] and "rights" in {one["id"] for one in seen["findings"]}, text
            # Without --no-helm's secrets helm sees no release, and it is said where that right is given.
            outcome = await session.helm(f"list -n {SPACE}")
            assert outcome.is_error or outcome.structured["exit_code"], outcome.text
            assert "may not list secrets" in outcome.text and "without --no-helm" in outcome.text, outcome.text
            structured, text, failed = await ask(session, "obi_k8s_status")
            assert failed and "--access read-only --namespace NAMESPACE --everywhere" in structured["hint"], text
        asked, _ = sandbox.requests(place)
        assert [one for one in asked if one.user == made.user and one.writes and one.status < 300] == []


async def test_what_is_asked_of_all_namespaces_works_with_the_rights_for_it(
    serve: Serve, administrator: Administrator, tmp_path: Path
) -> None:
    with rights(administrator, tmp_path, "read-only", "--everywhere") as made:
        async with serve("full", **made.settings) as session:
            for tool in LOOKS:
                _, text, failed = await ask(session, tool)
                assert not failed, text
            outcome = await session.helm(f"list -n {SPACE}")
            assert not outcome.is_error, outcome.text


# --- helm, whose releases are secrets ---

RELEASES = "obi"
VALUES = """
fullnameOverride: obi-obi
config: {prometheus_export: {port: 9494}}
nodeSelector: {type: kwok}
updateStrategy: {rollingUpdate: {maxUnavailable: 100%}}
"""


@pytest.fixture
def as_it_was(sandbox: Sandbox, administrator: Administrator) -> Iterator[None]:
    """A namespace for releases; at the end every object of every kind is as it was."""
    before = everything(sandbox.api)
    administrator.kubectl("create", "namespace", RELEASES)
    yield
    administrator.kubectl("delete", "namespace", RELEASES)
    now = everything(sandbox.api)
    assert {path for path in {*before, *now} if before.get(path) != now.get(path)} == set()


async def carried_out(session: Session, tool: str, **arguments: Any) -> None:
    plan, text, failed = await ask(session, tool, namespace=RELEASES, **arguments)
    assert not failed and plan["plan_id"], text
    done, text, failed = await ask(session, tool, plan_id=plan["plan_id"])
    assert not failed and done["applied"], text


async def test_helm_works_under_the_rights_of_its_level(
    serve: Serve, administrator: Administrator, tmp_path: Path, as_it_was: None
) -> None:
    helm = {"OBI_MCP_TOOLSETS": '["helm"]'}
    with rights(administrator, tmp_path, "non-destructive", namespace=RELEASES) as middle:
        async with serve("non-destructive", **{**middle.settings, **helm}) as session:
            await carried_out(session, "obi_helm_install", values=VALUES)
            await carried_out(session, "obi_helm_upgrade", values="config: {log_level: DEBUG}")
            seen, text, failed = await ask(session, "obi_helm_status", namespace=RELEASES)
            assert not failed and (seen["revision"], seen["ready"]) == (2, True), text
    with rights(administrator, tmp_path, "full", namespace=RELEASES) as high:
        async with serve("full", **{**high.settings, **helm}) as session:
            await carried_out(session, "obi_helm_rollback")
            await carried_out(session, "obi_helm_uninstall")


# --- no rule could be left out ---


@dataclass(frozen=True)
class Need:
    """A command line that cannot do without a right: ``verb`` of ``resource`` in an API group."""

    verb: str
    resource: str
    group: str
    command: str
    stdin: dict[str, Any] | None = None

    async def run(self, session: Session) -> Outcome:
        more = {"stdin": json.dumps(self.stdin)} if self.stdin is not None else {}
        program = session.helm if self.command.startswith("list") else session.kubectl
        return await program(self.command, **more)


def here(kind: str) -> dict[str, Any]:
    """A good object of that kind, where the sandbox's OBI stands."""
    text = json.dumps(body_of(kind)).replace('"namespace": "obi"', f'"namespace": "{SPACE}"')
    body: dict[str, Any] = json.loads(text)
    return body


def role(kind: str, name: str) -> dict[str, Any]:
    """What OBI reads of the cluster, as a role of that name."""
    rules = [
        {"apiGroups": ["apps"], "resources": ["replicasets"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["pods", "services", "nodes"], "verbs": ["get", "list", "watch"]},
    ]
    metadata: dict[str, Any] = {"name": name, "labels": {"app.kubernetes.io/part-of": "obi"}}
    if kind == "Role":
        metadata["namespace"] = SPACE
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata, "rules": rules}


def needs(pod: str) -> tuple[Need, ...]:
    """What needs each rule of the roles at ``full``, the more special first."""
    dry = "create -f - --dry-run=server"
    rbac, monitoring = "rbac.authorization.k8s.io", "monitoring.coreos.com"
    return (
        Need("list", "pods", "", dry, role("ClusterRole", "beyla")),
        Need("list", "replicasets", "apps", dry, role("ClusterRole", "beyla")),
        Need("create", "clusterroles", rbac, dry, role("ClusterRole", "beyla")),
        Need("patch", "clusterroles", rbac, "apply -f - --dry-run=server", role("ClusterRole", "obi")),
        Need("get", "nodes", "", "get nodes"),
        Need("get", "clusterroles", rbac, "get clusterroles obi"),
        Need("get", "priorityclasses", "scheduling.k8s.io", "get priorityclasses"),
        Need("get", "configmaps", "", f"get configmaps obi -n {SPACE}"),
        Need("get", "daemonsets", "apps", f"get daemonsets obi -n {SPACE}"),
        Need("list", "horizontalpodautoscalers", "autoscaling", f"get hpa -n {SPACE}"),
        Need("list", "endpointslices", "discovery.k8s.io", f"get endpointslices -n {SPACE}"),
        Need("list", "pods", "metrics.k8s.io", f"top pods -n {SPACE} -l app.kubernetes.io/part-of=obi"),
        Need("list", "servicemonitors", monitoring, f"get servicemonitors -n {SPACE}"),
        Need("list", "networkpolicies", "networking.k8s.io", f"get networkpolicies -n {SPACE}"),
        Need("list", "poddisruptionbudgets", "policy", f"get pdb -n {SPACE}"),
        Need("list", "roles", rbac, f"get roles -n {SPACE}"),
        Need("get", "pods/log", "", f"logs {pod} -n {SPACE} --tail=1"),
        Need("create", "configmaps", "", dry, CONFIG_MAP),
        Need("patch", "daemonsets", "apps", f"label ds obi team=a -n {SPACE} --dry-run=server"),
        Need("create", "horizontalpodautoscalers", "autoscaling", dry, here("HorizontalPodAutoscaler")),
        Need("create", "servicemonitors", monitoring, dry, here("ServiceMonitor")),
        Need("create", "networkpolicies", "networking.k8s.io", dry, here("NetworkPolicy")),
        Need("create", "poddisruptionbudgets", "policy", dry, here("PodDisruptionBudget")),
        Need("create", "roles", rbac, dry, role("Role", "obi-rights")),
        Need("patch", "deployments/scale", "apps", f"scale deploy/{CACHE} -n {SPACE} --replicas=1"),
        Need("delete", "pods", "", f"delete pod {pod} -n {SPACE} --dry-run=server"),
        Need("list", "secrets", "", f"list -n {SPACE}"),
    )


@pytest.fixture
def furnished(administrator: Administrator) -> Iterator[None]:
    """What some of the commands are about: a k8s-cache, and the kinds of Prometheus's operator."""
    objects = [monitor("ServiceMonitor"), here("Deployment")]
    objects[1]["spec"]["template"]["spec"].pop("serviceAccountName", None)
    for body in objects:
        administrator.kubectl("create", "-f", "-", stdin=json.dumps(body))
    wait_until_monitored(administrator.sandbox, "servicemonitors")
    yield
    for body in objects:
        administrator.kubectl("delete", "-f", "-", stdin=json.dumps(body))


def path_of(body: dict[str, Any]) -> str:
    space = body["metadata"].get("namespace")
    return f"{RBAC}/{f'namespaces/{space}/' if space else ''}{body['kind'].lower()}s/{body['metadata']['name']}"


@dataclass(frozen=True)
class Roles:
    """The roles of an account, of which one rule at a time is taken away."""

    sandbox: Sandbox
    made: Account

    def may(self, need: Need) -> bool:
        """Whether the account has the right, as the API server itself says."""
        kubeconfig = yaml.safe_load(self.made.kubeconfig.read_text())
        own = self.sandbox.api
        api = Api(own.server, kubeconfig["users"][0]["user"]["token"], own.authority)
        resource, _, sub = need.resource.partition("/")
        asked = {"verb": need.verb, "group": need.group, "resource": resource, "subresource": sub}
        cluster_wide = need.resource in {"nodes", "clusterroles", "priorityclasses"}
        if need.stdin is not None and need.stdin["kind"] == "ClusterRole":
            asked |= {"name": need.stdin["metadata"]["name"]} if need.verb == "patch" else {}
        elif not cluster_wide:
            asked |= {"namespace": SPACE}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        }
        answer = api.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review).require("ask")
        return bool(answer["status"]["allowed"])

    def put(self, body: dict[str, Any], rules: list[dict[str, Any]]) -> None:
        document = json.dumps([{"op": "replace", "path": "/rules", "value": rules}]).encode()
        self.sandbox.api.request("PATCH", path_of(body), document, "application/json-patch+json").require("change it")

    @contextmanager
    def without(self, body: dict[str, Any], at: int, need: Need) -> Iterator[None]:
        """Without that rule, once the API server knows it."""
        rules = body["rules"]
        self.put(body, rules[:at] + rules[at + 1 :])
        try:
            wait_until("the right is gone", lambda: not self.may(need), within_s=120)
            yield
        finally:
            self.put(body, rules)
            wait_until("the right is back", lambda: self.may(need), within_s=120)


def fits(need: Need, rule: dict[str, Any]) -> bool:
    return need.verb in rule["verbs"] and need.resource in rule["resources"] and need.group in rule["apiGroups"]


async def test_no_rule_could_be_left_out(
    serve: Serve, sandbox: Sandbox, administrator: Administrator, tmp_path: Path, furnished: None
) -> None:
    """For each rule of each role there is a command that the server lets through, and that fails without the rule."""
    known = needs(sandbox.real_pod())
    with rights(administrator, tmp_path, "full") as made:
        roles = Roles(sandbox, made)
        async with serve("full", **made.settings) as session:
            for need in known:
                outcome = await need.run(session)
                assert not outcome.is_error and not outcome.structured["exit_code"], f"{need}: {outcome.text}"
            for body in made.rights:
                for at, rule in enumerate(body.get("rules", ())):
                    needing = [one for one in known if fits(one, rule)]
                    assert needing, f"nothing needs {rule}"
                    need = needing[0]
                    with roles.without(body, at, need):
                        outcome = await need.run(session)
                    failed = outcome.is_error or outcome.structured["exit_code"]
                    assert failed and "forbidden" in outcome.text.lower(), f"{need} without {rule}: {outcome.text}"
