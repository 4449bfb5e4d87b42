"""Attacks that were tried against the policy by somebody who distrusts agents, each with what has to refuse it."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.policy.policies import built_in
from tests.unit.recorded_road import NARROWED, RecordedRoad, services

from obi_mcp.config import Settings
from obi_mcp.enforcer.case import SidecarKey
from obi_mcp.enforcer.charts import private_chart
from obi_mcp.enforcer.model import Progress
from obi_mcp.enforcer.releases import _against_cluster
from obi_mcp.enforcer.sidecar import prove_sidecar
from obi_mcp.errors import Declined, InvalidArgument
from obi_mcp.obi.manifests.sidecar import Sidecar, removal_command, sidecar_patch
from obi_mcp.policy.chart import Chart, ChartStore
from obi_mcp.policy.chart_files import read_archive, read_chart
from obi_mcp.policy.chart_index import IndexEntry, read_entry
from obi_mcp.policy.chart_remote import RemoteChart
from obi_mcp.policy.chart_scan import called, scan_files
from obi_mcp.policy.manifest import judge_sidecar
from obi_mcp.policy.membership import RELEASE_NAME, RELEASE_NAMESPACE
from obi_mcp.policy.model import Access, Check, Document, RenderSpec, SidecarSpec
from obi_mcp.policy.release import Release, RenderedObject
from obi_mcp.policy.scope import Scope
from obi_mcp.resources.address import Address
from obi_mcp.toolsets.base import Person, Reply, Services, ToolCall
from obi_mcp.toolsets.confirming import MAX_LINE, MAX_LINES, QUOTED, question
from obi_mcp.toolsets.kubernetes.carry_out import Outcome
from obi_mcp.toolsets.kubernetes.objects import Target
from obi_mcp.toolsets.kubernetes.place import Place, name
from obi_mcp.toolsets.kubernetes.plan import Change, Plan, Plans, Step
from obi_mcp.toolsets.kubernetes.planned import plan_or_carry_out
from obi_mcp.toolsets.predecessor import translate

EVIL = b'x: {{ lookup "v1" "Secret" "kube-system" "" | toJson }}\n'
CHART = b"apiVersion: v2\nname: obi\nversion: 1.0.0\n"

# --- a repository operator who is not to be trusted: the archive ---


def packed(*members: tuple[str, bytes], headers: dict[str, str] | None = None, every: bool = False) -> bytes:
    """An archive with these members by their full names; ``headers`` are put before the last one, or before all."""
    stream = io.BytesIO()
    glob = headers if every else None
    with tarfile.open(fileobj=stream, mode="w:gz", format=tarfile.PAX_FORMAT, pax_headers=glob) as archive:
        for position, (name, data) in enumerate(members):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            if headers and not every and position == len(members) - 1:
                member.pax_headers = headers
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


@pytest.mark.parametrize(
    "name",
    [
        # helm drops the first word, whatever it is: these are templates for it.
        "./templates/evil.yaml",
        "x\\templates\\evil.yaml",
        "obi/x\\templates\\evil.yaml",
        "obi/./templates/evil.yaml",
        "obi/x/../templates/evil.yaml",
        "obi//templates/evil.yaml",
        "../templates/evil.yaml",
        "/templates/evil.yaml",
        "obi/templates/evil\n.yaml",
        "obi/templates/evil\x1b[2K.yaml",
    ],
)
def test_no_name_of_an_archive_means_something_else_to_helm(name: str) -> None:
    with pytest.raises(ValueError, match="no plain file of a chart"):
        read_archive(packed(("obi/Chart.yaml", CHART), (name, EVIL)), "obi.tgz")


def test_of_two_files_with_one_name_neither_is_read() -> None:
    twice = packed(("obi/Chart.yaml", CHART), ("obi/templates/a.yaml", EVIL), ("obi/templates/a.yaml", b"x"))
    with pytest.raises(ValueError, match="twice"):
        read_archive(twice, "obi.tgz")


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("headers", [{"GNU.sparse.name": "obi/README.md"}, {"path": "obi/README.md"}, {}])
def test_helm_reads_the_files_that_were_scanned_and_no_archive(
    headers: dict[str, str], every: bool, tmp_path: Path
) -> None:
    """Python and Go take extension headers differently, so that one sees README.md where the other sees a template."""
    store = tmp_path / "store"
    store.mkdir()
    data = packed(("obi/Chart.yaml", CHART), ("obi/templates/evil.yaml", EVIL), headers=headers, every=every)
    try:
        (store / "obi-1.0.0.tgz").write_bytes(data)
        chart = ChartStore([store], Scope()).resolve("obi")
        assert isinstance(chart, Chart) and chart.version == "1.0.0"
        pinned = ChartStore([store], Scope()).pin(chart, tmp_path)
    except ValueError:
        return  # not read at all
    written = {at.relative_to(pinned.path).as_posix() for at in pinned.path.rglob("*") if at.is_file()}
    assert written == set(read_chart(pinned.path)) and not list(pinned.path.rglob("*.tgz"))
    assert ("templates/evil.yaml" in written) is bool(list(scan_files(read_chart(pinned.path))))


def test_a_packaged_chart_inside_is_given_to_helm_as_files(tmp_path: Path) -> None:
    inner = packed(("in/Chart.yaml", CHART), ("in/templates/evil.yaml", EVIL))
    outer = tmp_path / "obi-1.0.0.tgz"
    outer.write_bytes(packed(("obi/Chart.yaml", CHART), ("obi/charts/in.tgz", inner)))
    store = ChartStore([], Scope(repositories={"otel": "https://charts.example.com"}))
    remote = store.resolve("otel/obi", "1.0.0")
    assert isinstance(remote, RemoteChart)
    chart = store.fetched(remote, outer)
    assert chart.path.is_dir() and not list(chart.path.rglob("*.tgz"))
    assert [found.path for found in store.scan(chart)] == ["charts/in/templates/evil.yaml"]


@pytest.mark.parametrize(
    ("files", "rule"),
    [
        ({"templates/{{ lookup `v1` }}.yaml": "{{ tpl .Template.Name . }}"}, "chart.name"),
        ({"values.schema.json": '{"$ref": "http://169.254.169.254/"}'}, "chart.schema"),
        ({"values.schema.json": '{"$schema": "http://169.254.169.254/"}'}, "chart.schema"),
        ({"values.schema.json": '{"$schema": "file:///var/run/secrets/token"}'}, "chart.schema"),
        ({"values.schema.json": '{"a": [{"$dynamicRef": "file:///etc/shadow"}]}'}, "chart.schema"),
        ({"values.schema.json": '{"$recursiveRef": "https://evil.example/"}'}, "chart.schema"),
        ({"charts/in/values.schema.json": '{"$schema": "https://evil.example/"}'}, "chart.schema"),
        ({"values.schema.json": '{"$schema": "http://json-schema.org/draft-07/schema#"}'}, None),
        ({"values.schema.json": '{"$schema": "https://json-schema.org/draft/2020-12/schema"}'}, None),
        ({"crds/a.yaml": "kind: CustomResourceDefinition"}, "chart.crds"),
        ({"charts/in/crds/a.yaml": "kind: CustomResourceDefinition"}, "chart.crds"),
        ({"templates/_hidden.tpl": '{{ define "a" }}{{ now }}{{ end }}'}, "chart.now"),
    ],
)
def test_no_template_computes_what_nobody_can_judge(files: dict[str, str], rule: str | None) -> None:
    found = {violation.rule for violation in scan_files({name: text.encode() for name, text in files.items()})}
    assert found == ({rule} if rule else set())


def test_a_hostile_template_is_read_in_time_that_grows_with_its_size() -> None:
    words = sum(1 for _ in called("{{" + "\n a" * 100_000))
    assert words == 100_000


# --- the same: the index, of which helm and this server may read different entries ---

GOOD = "https://charts.example.com/obi-1.0.0.tgz"
INDEXES = [
    # JSON with doubled keys: helm's reader takes the last, ours the first.
    '{"apiVersion":"v1","entries":{"obi":[{"version":"1.0.0","urls":["GOOD"]}],"obi":[{"version":"1.0.0","urls":["EVIL"]}]}}',
    '{"apiVersion":"v1","entries":{"obi":[{"version":"1.0.0","urls":["GOOD"]}]},"Entries":{"obi":[{"version":"1.0.0","urls":["EVIL"]}]}}',
    "entries:\n  obi:\n  - {version: 1.0.0, urls: [GOOD]}\n  - {version: 1.0.0, urls: [EVIL]}",
    "entries:\n  obi:\n  - {Version: 1.0.0, Urls: [EVIL]}\n  - {version: 1.0.0, urls: [GOOD]}",
    "v: &v 1.0.0\nentries:\n  obi:\n  - {version: *v, urls: [EVIL]}\n  - {version: 1.0.0, urls: [GOOD]}",
    "m: &m {version: 1.0.0, urls: [EVIL]}\nentries:\n  obi:\n  - {<<: *m}\n  - {version: 1.0.0, urls: [GOOD]}",
    "entries:\n  obi:\n  - {version: 1.0.0, urls: [GOOD, EVIL]}",
]


@pytest.mark.parametrize("index", INDEXES)
def test_helm_is_given_the_one_entry_that_was_judged(index: str) -> None:
    text = index.replace("GOOD", GOOD).replace("EVIL", "http://169.254.169.254/latest")
    entry = read_entry(text.encode(), "obi", "1.0.0")
    chart = RemoteChart("otel", "obi", "1.0.0", "https://charts.example.com")
    assert entry is not None and chart.refused_index(entry) is None
    made = json.loads(chart.index(entry))
    assert made["entries"] == {"obi": [{"apiVersion": "v2", "name": "obi", "version": "1.0.0", "urls": [GOOD]}]}


def test_helm_pulls_by_the_index_of_this_server(tmp_path: Path) -> None:
    index, seen = tmp_path / "otel-index.yaml", []
    doubled = INDEXES[0].replace("GOOD", GOOD).replace("EVIL", "http://169.254.169.254/latest")

    async def run_own(step: str) -> Any:
        if step == "update":
            index.write_text(doubled, "utf-8")
        else:
            seen.append(index.read_text("utf-8"))
        return SimpleNamespace(exit_code=0)

    def approve_fetch(decision: object, remote: object, step: str, folder: Path) -> str:
        return step

    case: Any = SimpleNamespace(
        place=lambda: tmp_path,
        charts=ChartStore([], Scope(repositories={"otel": "https://charts.example.com"})),
        head=SimpleNamespace(value=lambda name: "1.0.0"),
        policy=SimpleNamespace(approve_fetch=approve_fetch),
        run_own=run_own,
        decision=None,
    )
    with pytest.raises(ValueError, match="gave 0 archives"):
        asyncio.run(private_chart(case, RenderSpec("template", "obi", "observability", "otel/obi")))
    assert len(seen) == 1 and GOOD in seen[0] and "169.254" not in seen[0]


@pytest.mark.parametrize(
    "url",
    [
        "https://charts.example.com.evil.example/obi.tgz",
        "https://charts.example.com@evil.example/obi.tgz",
        "https://charts.example.com:8443/obi.tgz",
        "https://evil.example\\@charts.example.com/../obi.tgz#",
        "//evil.example/obi.tgz",
        "https://user:password@charts.example.com/obi.tgz",
        "https://charts.example.com/obi\x1b[2K.tgz",
        "oci://charts.example.com/obi",
        "file:///etc/shadow",
        "https://[::1]/obi.tgz",
        "https://charts.example.com:99999/obi.tgz",
    ],
)
def test_an_index_leads_nowhere_else(url: str) -> None:
    chart = RemoteChart("otel", "obi", "1.0.0", "https://charts.example.com")
    try:
        refused = chart.refused_index(IndexEntry("", (url,)))
    except ValueError as error:
        refused = str(error)
    assert refused


# --- beside somebody else's container ---

SCOPE = Scope(instrumented_namespaces=("shop",), allowed_secrets=("otlp", "db"), namespaces=("observability",))


def shop() -> dict[str, Any]:
    """A Deployment of somebody else's, whose Service leads to the port ``http``."""
    ports = [{"name": "http", "containerPort": 8080}, {"name": "admin", "containerPort": 9000}]
    helper = {"name": "proxy", "image": "proxy:1", "ports": [{"name": "mesh", "containerPort": 15001}]}
    containers = [{"name": "web", "image": "web:1", "ports": ports, "volumeMounts": [{"name": "d", "mountPath": "/d"}]}]
    pod = {"containers": containers, "initContainers": [helper], "volumes": [{"name": "d", "emptyDir": {}}]}
    metadata = {"name": "web", "namespace": "shop", "uid": "1"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {"template": {"metadata": {"labels": {"app": "web"}}, "spec": pod}},
    }


def beside(change: dict[str, Any], pod: dict[str, Any] | None = None) -> dict[str, Any]:
    """The same with OBI first, as the API server puts it, its container changed."""
    body = shop()
    spec = body["spec"]["template"]["spec"]
    sidecar = sidecar_patch(Sidecar(deployment="web", namespace="shop", open_port="8080", prometheus_port=9400))
    (container,) = sidecar["spec"]["template"]["spec"]["containers"]
    for key, value in change.items():
        container[key] = [*container.get(key, []), *value] if isinstance(value, list) else value
    spec.update(shareProcessNamespace=True, containers=[container, *spec["containers"]], **(pod or {}))
    return body


def env(name: str, **value: Any) -> dict[str, Any]:
    return {"env": [{"name": name, **value}]}


def secret(name: str) -> dict[str, Any]:
    return env("OTEL_EXPORTER_OTLP_HEADERS", valueFrom={"secretKeyRef": {"name": name, "key": "headers"}})


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({}, None),
        ({"ports": [{"name": "http", "containerPort": 9401}]}, "manifest.port"),
        ({"ports": [{"name": "mesh", "containerPort": 9401}]}, "manifest.port"),
        ({"ports": [{"name": "other", "containerPort": 8080}]}, "manifest.port"),
        (env("OTEL_EBPF_INTERNAL_METRICS_PROMETHEUS_PORT", value="9000"), "manifest.port"),
        (env("OTEL_EBPF_INTERNAL_METRICS_PROMETHEUS_PORT", value="015001"), "manifest.port"),
        (env("OTEL_EBPF_INTERNAL_METRICS_PROMETHEUS_PORT", value="$(OTEL_EBPF_OPEN_PORT)"), "manifest.variable"),
        (env("OTEL_EBPF_PROFILE_PORT", value="15001"), "manifest.variable"),
        ({"ports": [{"name": "x", "containerPort": 9401, "hostPort": 9401}]}, "manifest.host-port"),
        (secret("otlp"), "manifest.secret"),
        (secret("db"), "manifest.secret"),
        (secret("unknown"), "manifest.secret"),
        ({"volumeMounts": [{"name": "d", "mountPath": "/d"}]}, "manifest.mount"),
        ({"volumeMounts": [{"name": "kube-api-access", "mountPath": "/x"}]}, "manifest.mount"),
        ({"name": "web"}, "manifest.sidecar"),
        ({"restartPolicy": "Always"}, None),
        ({"command": ["/bin/sh"]}, None),
        ({"stdin": True}, None),
        ({"workingDir": "/d"}, None),
    ],
)
def test_obis_container_takes_nothing_of_theirs(change: dict[str, Any], rule: str | None) -> None:
    judgement = judge_sidecar(built_in().grounds.manifest, shop(), Document(0, beside(change)), scope=SCOPE)
    found = {violation.rule for violation in judgement.violations}
    assert rule in found if rule else bool(found) is bool(change), found


def test_what_took_a_port_of_theirs_can_be_taken_away() -> None:
    after = Document(0, beside({"ports": [{"name": "http", "containerPort": 8080}]}))
    manifest = built_in().grounds.manifest
    assert judge_sidecar(manifest, shop(), after, scope=SCOPE).violations
    assert not judge_sidecar(manifest, shop(), after, scope=SCOPE, stays=False).violations


@pytest.mark.parametrize(
    "pod",
    [
        {"containers": [{"name": "web", "$patch": "delete"}], "shareProcessNamespace": True},
        {"containers": [{"name": "web", "$patch": "delete"}, {"name": "obi", "$patch": "delete"}]},
        {"containers": [{"name": "obi", "$patch": "delete", "image": "x"}]},
        {"containers": [{"name": "obi", "$patch": "merge"}]},
        {"containers": [{"name": "obi", "$patch": "delete"}], "volumes": [{"name": "d", "emptyDir": {}}]},
        {"containers": [{"name": "obi", "$patch": "delete"}], "initContainers": []},
        {"containers": [{"name": "obi", "$patch": "delete"}], "ephemeralContainers": []},
        {"ephemeralContainers": [{"name": "obi", "image": "otel/ebpf-instrument"}]},
        {"containers": [], "shareProcessNamespace": None},
        {"containers": None},
    ],
)
def test_no_patch_of_another_form_takes_anything_away(pod: dict[str, Any]) -> None:
    policy = built_in().over(SCOPE)
    text = json.dumps({"spec": {"template": {"spec": pod}}})
    decision = policy.decide(f"kubectl patch deployment web -n shop -p '{text}'", access=Access.FULL)
    assert not decision.allowed


@pytest.mark.parametrize(
    ("known", "raised"),
    [
        ({("", "shop", "web", "obi")}, None),
        (set(), Access.FULL),
        ({("", "shop", "web", "other"), ("", "shop", "api", "obi"), ("east", "shop", "web", "obi")}, Access.FULL),
    ],
)
def test_below_full_only_what_this_server_added_is_taken_away(
    known: set[SidecarKey], raised: Access | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    decision = built_in().over(SCOPE).decide(removal_command("web", "shop"), access=Access.NON_DESTRUCTIVE)
    assert decision.pipeline is not None
    live, gone = beside({}), shop()
    live["metadata"]["resourceVersion"] = "1"

    async def get(*_: object) -> dict[str, Any]:
        return live

    async def dry_run(*_: object) -> list[Document]:
        return [Document(0, gone)]

    monkeypatch.setattr("obi_mcp.enforcer.sidecar.dry_run", dry_run)
    case: Any = SimpleNamespace(
        decision=decision, head=decision.pipeline.head, scope=SCOPE, cluster=SimpleNamespace(get=get),
        policy=built_in(), sidecars=known,
    )  # fmt: skip
    (check,) = decision.checks
    assert isinstance(check.spec, SidecarSpec) and check.raises_to is Access.FULL
    proved = asyncio.run(prove_sidecar(case, check, check.spec))
    assert proved.result.passed and proved.result.raised == raised, proved.result


# --- a person who is asked, and who must not be deceived or passed by ---

CREDENTIAL = "token=hunter2hunter2hunter2"


@pytest.mark.parametrize(
    ("quoted", "shown"),
    [
        (f"kubectl -n observability{' ' * 5_000}delete daemonset obi", "delete daemonset obi"),
        (f"kubectl -n observability{chr(9) * 5_000}delete daemonset obi", "delete daemonset obi"),
        (f"kubectl patch daemonset obi -p '{'x' * 2_000}' --type=json # the end", "# the end"),
        ("\n".join(["# harmless"] * 5_000) + "\nkind: ClusterRole", "kind: ClusterRole"),
        ("\n".join(["# harmless"] * 5_000) + "\nkind: ClusterRole", "lines are NOT shown"),
        ("a\u2028b\r\x1b[2Jc\x0bd", "| abcd"),
    ],
)
def test_what_stands_at_the_end_is_shown_as_well(quoted: str, shown: str) -> None:
    asked = question("Run this command (obi_kubectl)?", [quoted])
    assert shown in asked and len(asked.splitlines()) <= MAX_LINES + 4
    assert len(max(asked.splitlines(), key=len)) <= MAX_LINE + 2


@pytest.mark.parametrize(
    "text", ["x\nRun this command?", "x\u2029Run this command?", "\x1b]8;;http://evil.example\x07ok", CREDENTIAL]
)
def test_nothing_that_is_quoted_looks_like_the_question_or_is_a_secret(text: str) -> None:
    head, said, *lines = question("Really?", [text]).splitlines()
    assert (head, said) == ("Really?", QUOTED) and all(line.startswith("| ") for line in lines)
    assert not {"\x1b", "\x07"}.intersection("".join(lines)) and "hunter2" not in "".join(lines)


NOWHERE = {"template": {"spec": {"nodeSelector": {"no": "node"}}}}


@pytest.mark.parametrize(
    ("kind", "was", "becomes", "asks"),
    [
        ("DaemonSet", {}, NOWHERE, True),
        ("Deployment", {"replicas": 1}, {"replicas": 0}, True),
        ("DaemonSet", {}, {"template": {"spec": {"hostPID": True}}}, False),
        ("Deployment", {"replicas": 1}, {"replicas": 2}, False),
    ],
)
def test_a_plan_that_leaves_no_pods_is_destructive(
    kind: str, was: dict[str, Any], becomes: dict[str, Any], asks: bool
) -> None:
    target = Target(kind, "obi", "observability")
    before, after = ({"kind": kind, "spec": spec} for spec in (was, becomes))
    place = Place("obi_k8s_deploy", "test")
    plan = Plan(
        "p1", "obi_k8s_deploy", place, (), {}, (Change(target, "change"),), befores={target: before},
        afters={target: after},
    )  # fmt: skip
    plans, asked = Plans(), []
    plans.keep(plan)

    async def ask(text: str) -> Reply:
        asked.append(text)
        return "decline"

    async def carry(services: Services, plan: Plan, progress: Progress | None, *, wait_s: float) -> Outcome:
        return Outcome(())

    async def make(services: Services, call: ToolCall) -> Plan:
        raise AssertionError("no plan is made")

    made = services(RecordedRoad(decisions={}), Settings(access=Access.FULL, confirm="destructive"))
    step = Step("kubectl apply -f -", ())
    made.enforcer.decisions[step.command] = replace(NARROWED, access=Access.NON_DESTRUCTIVE)  # type: ignore[attr-defined]
    plans.keep(replace(plan, steps=(step,)))
    call = ToolCall({"plan_id": "p1"}, "test", person=Person("client", ask))
    with pytest.raises(Declined) if asks else nullcontext():
        asyncio.run(plan_or_carry_out(plans, "obi_k8s_deploy", made, call, make, carry=carry))
    assert bool(asked) is asks


@pytest.mark.parametrize(
    ("becomes", "raised"), [(NOWHERE, Access.FULL), ({"template": {"spec": {"hostPID": True}}}, None)]
)
def test_an_upgrade_that_leaves_no_pods_needs_full_like_any_other_change(
    becomes: dict[str, Any], raised: Access | None
) -> None:
    metadata = {"name": "obi", "annotations": {RELEASE_NAME: "obi", RELEASE_NAMESPACE: "observability"}}
    live = {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": {}}
    body = {**live, "spec": becomes}

    async def get(*_: object) -> dict[str, Any]:
        return live

    case: Any = SimpleNamespace(
        resources=built_in().resources, cluster=SimpleNamespace(get=get), release=SimpleNamespace(before=None)
    )
    rendered = Release("obi", "observability", "obi", "1", 1, "", (RenderedObject(Document(0, body), "x"),))
    spec = RenderSpec("upgrade", "obi", "observability", "obi")
    proved = asyncio.run(_against_cluster(case, Check("render", "obi", None, "", spec), spec, rendered))
    assert proved.result.passed and proved.result.raised == raised


@pytest.mark.parametrize("extra", [{"dryRun": True}, {"dryRun": False}, {"kubeconfig": "x"}, {"imageTag": "1"}])
@pytest.mark.parametrize("tool", ["obi_k8s_deploy", "obi_helm_upgrade", "obi_k8s_upgrade", "obi_k8s_config"])
def test_a_dry_run_of_the_old_form_carries_no_plan_out(tool: str, extra: dict[str, Any]) -> None:
    assert translate(tool, {"plan_id": "p1", **extra}) is None


# --- addresses of resources ---


def words_of(address: Address) -> str:
    """What of an address comes into command lines."""
    place = Place.of("read", ToolCall({"context": address.context, "namespace": address.namespace}, "test"))
    return f"{place.where} {name(address.pod, 'pod')}"


@pytest.mark.parametrize(
    "uri",
    [
        "obi://k8s/current/%2e%2e/status",
        "obi://k8s/current/kube-system%2fpods%2fx/status",
        "obi://k8s/current/obi%20-A/status",
        "obi://k8s/current/-A/status",
        "obi://k8s/current/obi%0a-A/status",
        "obi://k8s/current/%ef%bd%8fbi/status",
        f"obi://k8s/current/{'a' * 5_000}/status",
        "obi://k8s/current/obi/pods/x%3b/logs",
        "obi://k8s/current/obi/pods/--all-containers/logs",
        "obi://k8s/current/obi/pods/x%20-c%20web/logs",
        "obi://k8s/current/obi/pods/x%2f..%2f..%2fsecrets/logs",
        f"obi://k8s/current/obi/pods/{'a' * 5_000}/logs",
        "obi://k8s/current/obi/pods/x%00/logs",
        "obi://k8s/a%20b/obi/status",
        "obi://k8s/a%27%20--token=x/obi/status",
        "obi://k8s//obi/status",
        "obi://k8s/current/obi/pods//logs",
        "obi://k8s/current/obi/status?x",
        "obi://k8s/current/obi/status/..",
        "obi://k8s/current/obi/secrets",
        "OBI://k8s/current/obi/status",
        "obi://k8s/current/obi/status\n",
    ],
)
def test_an_address_becomes_names_or_nothing(uri: str) -> None:
    address = Address.parse(uri)
    if address is None:
        return
    with pytest.raises(InvalidArgument):
        words_of(address)
