"""What a container gets follows from its configuration, and a Compose file is the same container."""

from __future__ import annotations

from typing import Any

import pytest

from obi_mcp.config import Settings
from obi_mcp.containers.compose import compose_text, effect_of_compose
from obi_mcp.containers.failures import refused
from obi_mcp.containers.model import Container, EngineFacts
from obi_mcp.containers.plan import Wish, made_config, plan
from obi_mcp.containers.reading import container, usage
from obi_mcp.containers.watching import how_it_ended, problems
from obi_mcp.errors import Conflict, HostUnfit, InvalidDocument, ObiMcpError, ProgramFailed
from obi_mcp.policy.effects import Host
from obi_mcp.policy.engine import Policy
from obi_mcp.policy.model import Access

IMAGE = "otel/ebpf-instrument:v0.12.0"
NETWORK = "network: {enable: true}\nprometheus_export: {port: 9090}\n"
APPLICATION = "open_port: '8080'\nprometheus_export: {port: 9090}\n"
NEW = EngineFacts("unix:///var/run/docker.sock", "29.0.1", "1.52", (6, 12), local=True)

LEAST: list[tuple[dict[str, Any], dict[str, Any], set[str]]] = [
    # the wish, the engine, the capabilities
    ({"config": NETWORK}, {}, {"BPF", "NET_RAW", "PERFMON"}),
    ({"config": NETWORK.replace("true", "true, source: tc")}, {}, {"BPF", "NET_ADMIN", "PERFMON"}),
    (
        {"config": APPLICATION},
        {},
        {"BPF", "NET_RAW", "PERFMON", "DAC_READ_SEARCH", "CHECKPOINT_RESTORE", "SYS_PTRACE"},
    ),
    ({"config": NETWORK}, {"kernel": (5, 10)}, {"BPF", "NET_RAW", "PERFMON", "SYS_RESOURCE"}),
    ({"config": NETWORK, "further": ("DAC_READ_SEARCH",)}, {}, {"BPF", "NET_RAW", "PERFMON", "DAC_READ_SEARCH"}),
    ({"config": NETWORK, "privileged": True}, {}, set()),
    ({"config": NETWORK, "program": "beyla", "version": "v3.0.0"}, {}, {"BPF", "NET_RAW", "PERFMON"}),
    (
        {"config": NETWORK, "program": "beyla", "version": "v1.8.0"},
        {},
        {"BPF", "NET_RAW", "PERFMON", "DAC_READ_SEARCH"},
    ),
    ({"config": "log_level: INFO\n"}, {}, set()),
]


def facts(**changed: Any) -> EngineFacts:
    """A new engine on this host, with changes."""
    values = {name: getattr(NEW, name) for name in EngineFacts.__dataclass_fields__}
    return EngineFacts(**{**values, **changed})


@pytest.mark.parametrize(("wish", "engine", "expected"), LEAST, ids=range(len(LEAST)))
def test_a_container_gets_the_least_that_its_configuration_needs(
    wish: dict[str, Any], engine: dict[str, Any], expected: set[str]
) -> None:
    made = plan(Wish(IMAGE, **wish), facts(**engine)).effect
    assert set(made.capabilities) == expected and made.privileged == wish.get("privileged", False)
    assert (made.pid_mode, made.network_mode, made.security_options) == ("host", "host", ("no-new-privileges",))


MOUNTS = [
    (NETWORK, ["/sys/kernel/security"]),
    (APPLICATION, ["/sys/kernel/security", "/sys/kernel/tracing", "/sys/fs/cgroup"]),
]


@pytest.mark.parametrize(("config", "expected"), MOUNTS)
def test_what_is_mounted_is_read_only_and_of_the_kernel(config: str, expected: list[str]) -> None:
    mounts = plan(Wish(IMAGE, config), NEW).effect.mounts
    assert [mount.source for mount in mounts] == expected and all(mount.read_only for mount in mounts)


def test_apparmor_is_lifted_only_where_obi_has_to_look_into_processes() -> None:
    engine = facts(apparmor=True)
    assert "apparmor=unconfined" in plan(Wish(IMAGE, APPLICATION), engine).effect.security_options
    assert "apparmor=unconfined" not in plan(Wish(IMAGE, NETWORK), engine).effect.security_options


NOTES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"config": NETWORK}, {"version": "20.10.24"}, "does not know BPF, PERFMON"),
    ({"config": NETWORK, "privileged": True}, {"version": "20.10.24"}, "enforce_sys_caps: false"),
    ({"config": NETWORK, "privileged": True}, {}, "what root may"),
    ({"config": NETWORK}, {"local": False}, "not on this host"),
    ({"config": NETWORK, "memory_bytes": 0}, {}, "no memory limit"),
    ({"config": "log_level: INFO\n"}, {}, "nothing that OBI could watch"),
]


@pytest.mark.parametrize(("wish", "engine", "word"), NOTES, ids=range(len(NOTES)))
def test_what_a_user_should_know_is_noted(wish: dict[str, Any], engine: dict[str, Any], word: str) -> None:
    assert any(word in note for note in plan(Wish(IMAGE, **wish), facts(**engine)).notes)
    assert plan(Wish(IMAGE, NETWORK), NEW).notes == ()


CONFIGS = [
    ({"open_port": "8080", "network": False, "exports": True}, 'open_port: "8080"\n'),
    (
        {"open_port": None, "network": True, "exports": False},
        "network:\n  enable: true\nprometheus_export:\n  port: 9090\n",
    ),
]


@pytest.mark.parametrize(("wanted", "expected"), CONFIGS)
def test_a_configuration_is_made_for_the_first_day(wanted: dict[str, Any], expected: str) -> None:
    assert made_config(**wanted) == expected


WISHES = [
    Wish(IMAGE, NETWORK),
    Wish(IMAGE, APPLICATION, privileged=True, restart="no", memory_bytes=0),
    Wish(IMAGE, "# ${HOST_IP} costs $5\n" + NETWORK, name="obi-2", environment={"OTEL_EBPF_LOG_LEVEL": "$debug"}),
]


@pytest.mark.parametrize("wish", WISHES, ids=range(len(WISHES)))
def test_a_compose_file_read_back_is_the_container_that_was_planned(wish: Wish) -> None:
    effect = plan(wish).effect
    assert effect_of_compose(compose_text(effect)) == effect


def test_the_policy_allows_what_a_compose_file_starts() -> None:
    policy = Policy.load(Settings())
    text = compose_text(plan(Wish(IMAGE, NETWORK)).effect)
    for old, new, allowed in (
        ("", "", True),
        (IMAGE, "alpine:3", False),
        ("/sys/kernel/security", "/", False),
        ("- BPF", "- SYS_MODULE", False),
        ("- -config\n", "- sh\n", False),
    ):
        assert old in text
        effect = effect_of_compose(text.replace(old, new, 1))
        decision = policy.decide_effect(effect, access=Access.NON_DESTRUCTIVE, host=Host())
        assert decision.allowed is allowed, (new, decision.reason)


FOREIGN = [
    "",
    "services: {}\nconfigs: {}\n",
    "services: {db: {image: postgres}}\nconfigs: {}\n",
    compose_text(plan(Wish(IMAGE, NETWORK)).effect).replace("  pid: host\n", "  pid: host\n    devices: [/dev/mem]\n"),
    compose_text(plan(Wish(IMAGE, NETWORK)).effect) + "volumes: {}\n",
]


@pytest.mark.parametrize("text", FOREIGN, ids=range(len(FOREIGN)))
def test_a_compose_file_with_more_in_it_is_not_judged(text: str) -> None:
    with pytest.raises(InvalidDocument):
        effect_of_compose(text)


ANSWERS: list[tuple[str, type[ObiMcpError], str]] = [
    ('invalid CapAdd: unknown capability: "CAP_BPF"', HostUnfit, "upgrade Docker to 23"),
    ("runc create failed: unable to apply caps: operation not permitted", HostUnfit, "engine itself lacks"),
    ('The container name "/obi" is already in use by container "ab"', Conflict, "another name"),
    ("error loading seccomp filter", HostUnfit, "privileged"),
    ("no space left on device", ProgramFailed, "obi_docker_status"),
]


@pytest.mark.parametrize(("message", "kind", "hint"), ANSWERS, ids=[row[1].__name__ + row[2] for row in ANSWERS])
def test_what_the_engine_refuses_has_a_way_out(message: str, kind: type[ObiMcpError], hint: str) -> None:
    error = refused(message, NEW)
    assert type(error) is kind and hint in f"{error.message} {error.hint}"


ENDS: list[tuple[dict[str, Any], list[str], str, str]] = [
    # the engine's state, the log, how it ended, what is wrong first
    ({"Status": "running", "Running": True}, [], "", ""),
    ({"Status": "exited", "ExitCode": 137, "OOMKilled": True}, [], "OOMKilled", "memory limit"),
    ({"Status": "exited", "ExitCode": 137}, [], "SIGKILL", ""),
    ({"Status": "exited", "ExitCode": 0}, [], "told to end, or gave up, as it does when its Prometheus port", ""),
    (
        {"Status": "exited", "ExitCode": 0},
        ['level=ERROR msg="Prometheus endpoint service ended unexpectedly" error="bind: address already in use"'],
        "gave up",
        "port is taken",
    ),
    (
        {"Status": "exited", "ExitCode": 255},
        ['level=ERROR msg="x" error="map direct_flows: map create: cannot allocate memory"'],
        "could not start",
        "no room for BPF maps",
    ),
    ({"Status": "exited", "ExitCode": 3}, [], "exit code 3", ""),
    ({"Status": "created", "ExitCode": 127, "Error": "exec: no such file"}, [], "no such file", ""),
]


@pytest.mark.parametrize(("state", "lines", "ended", "cause"), ENDS, ids=range(len(ENDS)))
def test_an_end_has_its_reason(state: dict[str, Any], lines: list[str], ended: str, cause: str) -> None:
    found: Container = container({"Id": "a1", "Name": "/obi", "State": state, "Config": {"Image": IMAGE}})
    assert ended in how_it_ended(found) and bool(ended) == bool(how_it_ended(found))
    wrong = problems(found, lines)
    assert (cause in wrong[0].cause) if cause else wrong == ()


def test_what_an_engine_leaves_out_is_empty_and_never_an_exception() -> None:
    empty = container({})
    assert (empty.id, empty.state, empty.exit_code, empty.labels, empty.proof.image) == ("", "", None, (), "")
    assert usage({}, {}, 1.0, 0) is None


def test_use_is_counted_between_two_samples_and_without_what_the_kernel_could_drop() -> None:
    def sample(cpu: int) -> dict[str, Any]:
        memory = {"usage": 100, "stats": {"total_inactive_file": 40}}
        return {"cpu_stats": {"cpu_usage": {"total_usage": cpu}}, "memory_stats": memory}

    found = usage(sample(1_000_000_000), sample(1_500_000_000), 0.25, 200)
    assert found is not None
    assert (found.cpu_percent, found.memory_bytes, found.memory_limit_bytes) == (200.0, 60, 200)
