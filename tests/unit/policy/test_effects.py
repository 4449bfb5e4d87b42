"""Effects on this host: what attackers would ask for, the rules as data, and the road that performs them."""

from __future__ import annotations

import ast
import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.policy.policies import built_in
from tests.unit.recorded_road import RecordedAudit

from obi_mcp.config import Settings
from obi_mcp.enforcer.effects import Asked, EffectRoad
from obi_mcp.errors import CallTimeout, Denied, ProgramFailed
from obi_mcp.policy.effect_hard import EFFECT_HARD
from obi_mcp.policy.effect_judge import EXAMPLE_HOST, EffectJudge
from obi_mcp.policy.effect_rule import EffectRule
from obi_mcp.policy.effects import (
    EFFECTS,
    AgentCheck,
    AgentEnd,
    AgentRead,
    AgentSignal,
    AgentStart,
    ApprovedEffect,
    ConfigRead,
    ConfigWrite,
    ContainerProof,
    ContainerRead,
    ContainerRun,
    ContainerStop,
    Effect,
    Host,
    Mount,
    ProcessProof,
)
from obi_mcp.policy.explain import explained, names
from obi_mcp.policy.model import Access
from obi_mcp.policy.scope import Scope

PACKAGE = Path(__file__).parents[3] / "server/obi_mcp"
OWN = "/var/lib/obi-mcp"
CONFIG = "network: {enable: true}\nprometheus_export: {port: 9090}\n"
START = AgentStart("/usr/local/bin/obi", f"{OWN}/config.yaml", CONFIG)
RUN = ContainerRun(image="otel/ebpf-instrument:v0.12.0", name="obi", config=CONFIG)
MARK = (("obi-mcp.managed", "1"),)
PROOF = ProcessProof(4711, 99, "boot", "/usr/local/bin/obi")


def start(**changes: Any) -> Effect:
    return replace(START, **changes)


def run(**changes: Any) -> Effect:
    return replace(RUN, **changes)


def variable(name: str, value: str) -> Effect:
    return start(environment=((name, value),))


def mount(source: str, *, read_only: bool = True) -> Effect:
    return run(mounts=(Mount(source, "/x", read_only),))


DENIED: list[tuple[Effect, str]] = [
    # other programs
    (start(binary="/usr/local/bin/obi "), "hard.binary"),
    (start(binary="/usr/local/bin/../bin/obi"), "hard.binary"),
    (start(binary="obi"), "hard.binary"),
    (start(binary=""), "hard.binary"),
    (AgentCheck("/bin/sh", "v0.12.0", CONFIG), "hard.binary"),
    (AgentCheck(START.binary, "v0.10.9", CONFIG), "hard.binary"),
    (AgentCheck(START.binary, "", CONFIG), "hard.binary"),
    (AgentCheck(START.binary, "v0", CONFIG), "hard.binary"),
    # other files
    (start(config_path="/etc/obi/config.yaml"), "hard.path"),
    (start(config_path=f"{OWN}/../x.yaml"), "hard.path"),
    (start(config_path=f"{OWN}/agent.json/x.yaml"), "hard.path"),
    (ConfigWrite(f"{OWN}/.yaml", CONFIG), "hard.path"),
    (ConfigWrite(f"{OWN}/agent.json", CONFIG), "hard.path"),
    (ConfigRead(f"{OWN}/agent.json"), "hard.path"),
    (ConfigWrite(f"{OWN}/agent.log", CONFIG), "hard.path"),
    (ConfigWrite("/root/.ssh/authorized_keys", CONFIG), "hard.path"),
    (ConfigWrite(f"{OWN}/a.yaml\n", CONFIG), "hard.path"),
    (ConfigRead("/etc/shadow"), "hard.path"),
    (ConfigRead("/etc/obi"), "hard.path"),
    (ConfigRead("/etc/obix/config.yaml"), "hard.path"),
    (ConfigRead("/etc/obi/../../root/kubeconfig.yaml"), "hard.path"),
    (ConfigRead("etc/obi/config.yaml"), "hard.path"),
    # configurations that leak
    (start(config="otel_traces_export: {endpoint: http://1.2.3.4:4318}"), "hard.agent-config"),
    (start(config="otel_traces_export: {endpoint: ${X}}"), "hard.agent-config"),
    (start(config="otel_traces_export: {headers: {authorization: x}}"), "hard.agent-config"),
    (start(config="{" * 500), "hard.agent-config"),
    (start(config="a: 1\n---\nb: 2\n"), "hard.agent-config"),
    (start(config="# " + "x" * 300_000), "hard.agent-config"),
    # variables
    (variable("LD_PRELOAD", "/x.so"), "hard.environment"),
    (variable("PATH", "/tmp"), "hard.environment"),
    (variable("GODEBUG", "x=1"), "hard.environment"),
    (variable("OTEL_EBPF_CONFIG_PATH", "/tmp/x.yaml"), "hard.environment"),
    (variable("BEYLA_CONFIG_PATH", "/tmp/x.yaml"), "hard.environment"),
    (variable("OTEL_EXPORTER_OTLP_ENDPOINT", "http://evil.example"), "hard.environment"),
    (variable("BEYLA_PROFILE_PORT", "6060"), "hard.environment"),
    (variable("OTEL_EBPF_LOG_LEVEL", "$(SECRET)"), "hard.environment"),
    (variable("OTEL_EBPF_LOG_LEVEL", "INFO\0LD_PRELOAD=/x"), "hard.environment"),
    (start(environment=(("OTEL_EBPF_LOG_LEVEL", "INFO"), ("OTEL_EBPF_LOG_LEVEL", "DEBUG"))), "hard.environment"),
    # processes
    (AgentEnd("/run/systemd"), "hard.process"),
    (AgentEnd(""), "hard.process"),
    (AgentSignal(PROOF, replace(PROOF, started=100)), "hard.process"),
    (AgentSignal(PROOF, replace(PROOF, boot="another")), "hard.process"),
    (AgentSignal(PROOF, replace(PROOF, executable="/usr/sbin/sshd")), "hard.process"),
    (AgentSignal(replace(PROOF, executable="/usr/sbin/sshd"), PROOF), "hard.process"),
    (AgentSignal(replace(PROOF, pid=1), replace(PROOF, pid=1)), "hard.process"),
    (AgentSignal(replace(PROOF, pid=-1), replace(PROOF, pid=-1)), "hard.process"),
    (AgentSignal(), "hard.process"),
    # containers
    (run(image="alpine"), "hard.image"),
    (run(image="evil.example/otel/ebpf-instrument"), "hard.image"),
    (run(image=""), "hard.image"),
    (mount("/"), "hard.mount"),
    (mount("/etc"), "hard.mount"),
    (mount("/sys"), "hard.mount"),
    (mount("/sys/kernel/security/../.."), "hard.mount"),
    (mount("/sys/kernel/tracing", read_only=False), "hard.mount"),
    (mount("/etc/otel/a", read_only=False), "hard.mount"),
    (mount("/run/docker.sock"), "hard.mount"),
    (mount(f"{OWN}/agent.json"), "hard.mount"),
    (mount("sys/kernel/btf"), "hard.mount"),
    (run(command=("sh",)), "docker.run"),
    (run(capabilities=("SYS_MODULE",)), "docker.run"),
    (run(pid_mode="container:db"), "docker.run"),
    (run(network_mode="container:db"), "docker.run"),
    (run(security_options=("label=disable",)), "docker.run"),
    (run(name="a b"), "docker.run"),
    (run(labels=(("com.docker.compose.project", "x"),)), "docker.run"),
    (run(restart="always"), "docker.run"),
    (ContainerStop(ContainerProof("a", "db", "postgres", (("obi-mcp.instance", "1"),))), "hard.container"),
    (ContainerStop(), "hard.container"),
    (ContainerRead("logs", ContainerProof("a", "db", "postgres")), "hard.container"),
    (AgentRead("environment"), "local.read"),
]


@pytest.mark.parametrize(("effect", "rule"), DENIED)
def test_what_must_not_happen_is_denied_by_name_with_a_reason_and_a_way_out(effect: Effect, rule: str) -> None:
    decision = built_in().decide_effect(effect, access=Access.FULL, host=EXAMPLE_HOST)
    assert (decision.effect, decision.rule) == ("deny", rule)
    assert decision.reason
    assert decision.hint or rule.startswith(("docker.", "local."))
    with pytest.raises(Denied):
        built_in().approve_effect(effect, access=Access.FULL, host=EXAMPLE_HOST)


ALLOWED: list[tuple[Effect, Access]] = [
    (START, Access.NON_DESTRUCTIVE),
    (variable("BEYLA_LOG_LEVEL", "DEBUG"), Access.NON_DESTRUCTIVE),
    (variable("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318"), Access.NON_DESTRUCTIVE),
    (ConfigRead("/etc/obi/sub/config.yml"), Access.READ_ONLY),
    (AgentRead("logs"), Access.READ_ONLY),
    (AgentCheck(START.binary, "0.11.0", CONFIG), Access.READ_ONLY),
    (AgentEnd(OWN, "restart"), Access.NON_DESTRUCTIVE),
    (AgentEnd(OWN), Access.FULL),
    (AgentSignal(PROOF, PROOF), Access.FULL),
    (AgentSignal(PROOF, replace(PROOF, executable="")), Access.FULL),
    (AgentSignal(PROOF, replace(PROOF, executable="/usr/local/bin/obi (deleted)")), Access.FULL),
    (RUN, Access.NON_DESTRUCTIVE),
    (mount("/sys/kernel/security"), Access.NON_DESTRUCTIVE),
    (mount("/sys/fs/bpf", read_only=False), Access.NON_DESTRUCTIVE),
    (mount("/etc/otel/ca.pem"), Access.NON_DESTRUCTIVE),
    (ContainerStop(ContainerProof("a", "obi", "grafana/beyla:1.8", MARK)), Access.FULL),
    (ContainerRead(), Access.READ_ONLY),
]


@pytest.mark.parametrize(("effect", "needed"), ALLOWED)
def test_what_may_happen_needs_its_level_and_no_more(effect: Effect, needed: Access) -> None:
    for level in Access:
        decision = built_in().decide_effect(effect, access=level, host=EXAMPLE_HOST)
        assert (decision.allowed, decision.access) == (level >= needed, needed), decision
    made = built_in().approve_effect(effect, access=Access.FULL, host=EXAMPLE_HOST)
    assert made.effect == effect


def test_a_host_without_anything_allows_nothing_but_looking() -> None:
    for effect, _ in ALLOWED:
        decision = built_in().decide_effect(effect, access=Access.FULL, host=Host())
        harmless = effect.kind in ("agent-read", "container-read", "container-run", "container-stop")
        assert decision.allowed is (harmless and "/etc/otel" not in str(effect))


def test_a_kind_or_a_field_that_no_rule_names_is_denied() -> None:
    nothing = EffectJudge(())
    decision = nothing.decide(AgentRead(), access=Access.FULL, scope=Scope(), host=EXAMPLE_HOST)
    assert (decision.effect, decision.rule) == ("deny", None)
    read = EffectRule("local.test", "agent-read", Access.READ_ONLY, "a test", None, {})
    silent = EffectJudge((read,)).decide(AgentRead("logs"), access=Access.FULL, scope=Scope(), host=EXAMPLE_HOST)
    assert (silent.effect, silent.reason) == ("deny", "what may not be set")
    assert EffectJudge((read,)).decide(AgentRead(), access=Access.FULL, scope=Scope(), host=EXAMPLE_HOST).allowed
    assert {rule.effect for rule in built_in().effects.rules} == set(EFFECTS)
    for rule in built_in().effects.rules:
        known = set(EFFECTS[rule.effect]().values())
        assert set(rule.fields) <= known, rule.id


def test_every_name_is_explained() -> None:
    policy = built_in()
    for name in (*EFFECT_HARD, *(rule.id for rule in policy.effects.rules)):
        assert name in names(policy)
        assert str(explained(policy, name)).startswith(f"{name}: ")


def test_only_the_engine_makes_an_approved_effect() -> None:
    makers = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "ApprovedEffect":
                makers.add(str(path.relative_to(PACKAGE)))
    assert makers == {"policy/engine.py"}


# --- the road ---


def road(access: Access = Access.FULL) -> tuple[EffectRoad, RecordedAudit]:
    audit = RecordedAudit()
    return EffectRoad(Settings(access=access), built_in(), audit, EXAMPLE_HOST), audit


def test_every_outcome_has_its_line() -> None:
    made, audit = road()
    done: list[ApprovedEffect[Any]] = []

    async def perform(approved: ApprovedEffect[Any]) -> str:
        done.append(approved)
        return "done"

    async def fail(approved: ApprovedEffect[Any]) -> str:
        raise ProgramFailed("password=hunter2secret is wrong", "use another")

    hanging = asyncio.Event()

    async def hang(approved: ApprovedEffect[Any]) -> str:
        hanging.set()
        await asyncio.Event().wait()
        return ""

    async def scenario() -> None:
        asked = Asked("obi_deploy_local", "test")
        assert await made.run(START, asked, perform) == "done"
        with pytest.raises(Denied):
            await made.run(start(binary="/bin/sh"), asked, perform)
        with pytest.raises(Denied):
            await made.run(START, replace(asked, access=Access.READ_ONLY), perform)
        with pytest.raises(ProgramFailed) as failed:
            await made.run(START, asked, fail)
        assert "hunter2secret" not in failed.value.message
        assert failed.value.audited
        with pytest.raises(CallTimeout):
            await made.run(START, replace(asked, timeout_s=0.01), hang)
        running = asyncio.ensure_future(made.run(START, asked, hang))
        hanging.clear()
        await hanging.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(scenario())
    assert [approved.effect for approved in done] == [START]
    began = [entry.call for entry in audit.entries if entry.outcome == "began"]
    ends = [entry for entry in audit.entries if entry.outcome is None]
    assert began == [entry.call for entry in ends if entry.call is not None] and len(began) == 4
    assert [(entry.decision and entry.decision.rule, entry.error) for entry in ends] == [
        ("local.start", None),
        ("hard.binary", "denied"),
        ("local.start", "denied"),
        ("local.start", "program_failed"),
        ("local.start", "timeout"),
        ("local.start", "cancelled"),
    ]
    assert all(entry.command.startswith("agent-start ") for entry in audit.entries)


def test_the_level_of_the_server_is_the_most_that_a_call_has() -> None:
    made, _ = road(Access.READ_ONLY)
    assert not made.explain(START, Access.FULL).allowed
