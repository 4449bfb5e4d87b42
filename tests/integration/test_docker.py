"""The docker tools through a real MCP client, on a real engine, with a real eBPF agent in the container.

The agent is Beyla 1.8 under OBI's image name: see tests/sandbox. Docker is Debian's 20.10.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from tests.daemon import obstacle
from tests.integration.conftest import Outcome
from tests.integration.docker_ground import (
    CONFIG,
    INSIDE,
    OBI_IMAGE,
    OTHER_IMAGE,
    PEER,
    Ground,
    ground,
    wait_until,
)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(obstacle() is not None, reason=obstacle() or ""),
]

DEPLOY = {"image": OBI_IMAGE, "config": CONFIG, "privileged": True, "restart": "no"}
Call = Callable[..., Coroutine[Any, Any, Outcome]]


@pytest.fixture(scope="module")
def place() -> Iterator[Ground]:
    with ground() as made:
        yield made


@pytest.fixture
def modern_place() -> Iterator[Ground]:
    with ground(modern=True) as made:
        yield made


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    return tmp_path / "audit.ndjson"


def session(
    place: Ground, audit: Path, work: Callable[[Call], Awaitable[None]], access: str = "full", *, inside: bool = False
) -> None:
    """Runs ``work`` with a connected client; no container is left afterwards, whatever happened. ``inside``: the server
    is in the engine's network, as it is on a host of one network."""

    async def main() -> None:
        enter = place.enter() if inside else []
        async with connected(place.daemon.host, audit, access, enter) as call:
            await work(call)

    try:
        asyncio.run(main())
    finally:
        left = place.daemon.docker("ps", "-aq").stdout.split()
        if left:
            place.daemon.docker("rm", "-f", *left)


@asynccontextmanager
async def connected(host: str, audit: Path, access: str, enter: list[str]) -> AsyncIterator[Call]:
    environment = {
        "OBI_MCP_DOCKER__HOST": host,
        "OBI_MCP_AUDIT__FILE": str(audit),
        "XDG_STATE_HOME": str(audit.parent),
        "PATH": os.environ["PATH"],
    }
    words = [*enter, sys.executable, "-m", "obi_mcp", "serve", "--access", access, "--toolsets", "docker"]
    async with Client(StdioServerParameters(command=words[0], args=words[1:], env=environment)) as client:

        async def call(tool: str, **given: Any) -> Outcome:
            result = await client.call_tool(f"obi_docker_{tool}", given)
            text = "\n".join(getattr(part, "text", "") for part in result.content)
            return Outcome(dict(result.structured_content or {}), text, bool(result.is_error))

        yield call


def audited(audit: Path) -> list[tuple[str, str, str | None]]:
    """Tool, effect of the decision, and error of every line that says how a call ended."""
    lines = [json.loads(line) for line in audit.read_text(encoding="utf-8").splitlines()]
    ends = [line for line in lines if line.get("outcome") != "began"]
    return [(line["tool"], line["effect"] or "", line.get("error")) for line in ends]


def test_obi_runs_in_a_container_shows_real_flows_and_leaves_nothing(place: Ground, audit: Path) -> None:
    docker = place.daemon.docker

    async def work(call: Call) -> None:
        planned = await call("deploy", **DEPLOY, dry_run=True)
        assert planned.structured["decision"]["effect"] == "allow" and docker("ps", "-aq").stdout == ""

        deployed = await call("deploy", **DEPLOY)
        assert deployed.structured["ready"] is True and not deployed.is_error, deployed.text
        assert deployed.structured["plan"]["features"] == ["network"]
        made = json.loads(docker("inspect", "obi").stdout)[0]
        host = made["HostConfig"]
        assert (host["PidMode"], host["NetworkMode"], host["Privileged"]) == ("host", "host", True)
        assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
        assert host["Binds"] is None and [one["Source"] for one in host["Mounts"]] == ["/sys/kernel/security"]

        place.request(40)
        await asyncio.to_thread(wait_until, lambda: f'dst_address="{PEER}"' in place.metrics(), "flows in the metrics")
        flows = await call("logs", kind="flow", grep=PEER, tail=5)
        assert flows.structured["records"] and flows.structured["untrusted"] is True
        assert all(INSIDE in record["text"] and PEER in record["text"] for record in flows.structured["records"])
        said = await call("logs", level="INFO", grep="Flows agent successfully started")
        (record,) = said.structured["records"]
        assert (record["level"], record["component"]) == ("INFO", "agent.Flows")

        (row,) = (await call("status")).structured["containers"]
        assert (row["name"], row["state"], row["restarts"], row["image"]) == ("obi", "running", 0, OBI_IMAGE)
        assert 20 << 20 < row["memory_bytes"] < row["memory_limit_bytes"] == 2 << 30
        assert row["image_id"].startswith("sha256:")

        again = await call("deploy", **DEPLOY)
        assert again.code == "conflict" and "of OBI's already" in again.text
        stopped = await call("stop")
        assert (stopped.structured["removed"], stopped.structured["exit_code"]) == (True, 0)
        assert docker("ps", "-aq").stdout == "" and docker("volume", "ls", "-q").stdout == ""
        assert (await call("stop")).code == "not_found"

    session(place, audit, work)
    done = [(tool.removeprefix("obi_docker_"), effect, error) for tool, effect, error in audited(audit)]
    assert done == [
        ("deploy", "allow", None),
        ("logs", "allow", None),
        ("logs", "allow", None),
        ("status", "allow", None),
        ("deploy", "allow", "conflict"),
        ("stop", "allow", None),
        ("stop", "", "not_found"),
    ]


def test_a_container_that_is_told_to_capture_sends_its_flows_to_the_server(place: Ground, audit: Path) -> None:
    captured = {
        **DEPLOY,
        "config": CONFIG + "otel_metrics_export: {interval: 1s, features: [network]}\n",
        "capture": True,
    }

    async def work(call: Call) -> None:
        both = await call("deploy", **captured, otlp_endpoint="http://127.0.0.1:1")
        assert both.code == "invalid_argument"
        assert (await call("deploy", **captured, dry_run=True)).structured["decision"]["effect"] == "allow"
        assert not (audit.parent / "obi-mcp" / "capture").exists()

        deployed = await call("deploy", **captured)
        assert deployed.structured.get("ready") is True, deployed.text
        async with asyncio.timeout(120):
            while not (taken := (await call("status")).structured["capture"]["metrics"]["kept"]):
                place.request(5)
                await asyncio.sleep(0.2)
        assert taken > 0

    session(place, audit, work, inside=True)
    assert os.listdir(audit.parent / "obi-mcp" / "capture") == []


def test_a_changed_configuration_takes_effect_and_a_wrong_one_leaves_the_old_container_running(
    place: Ground, audit: Path
) -> None:
    docker = place.daemon.docker

    def identity() -> str:
        return docker("ps", "-q", "--no-trunc", "--filter=name=^obi$").stdout.strip()

    async def work(call: Call) -> None:
        assert (await call("deploy", **DEPLOY)).structured["ready"] is True
        first = identity()

        changed = CONFIG.replace("prometheus_export: {", "prometheus_export: {path: /other, ")
        replaced = await call("deploy", **{**DEPLOY, "config": changed}, replace=True)
        assert replaced.structured["ready"] is True, replaced.text
        second = identity()
        assert second not in ("", first) and len(docker("ps", "-aq").stdout.split()) == 1
        assert "path=/other" in docker("logs", "obi").stdout

        mistyped = await call("deploy", **{**DEPLOY, "config": CONFIG.replace("network:", "netwrk:")}, replace=True)
        assert mistyped.code == "invalid_document" and identity() == second
        broken = CONFIG.replace(f"  agent_ip: {INSIDE}\n", "")
        failed = await call("deploy", **{**DEPLOY, "config": broken}, replace=True)
        assert failed.structured["ready"] is False and "taken back" in failed.structured["notes"][0], failed.text
        assert "no default route" in failed.structured["problems"][0]["cause"]
        await asyncio.to_thread(wait_until, lambda: identity() == second, "the old container")
        assert len(docker("ps", "-aq").stdout.split()) == 1
        denied = await call("deploy", **{**DEPLOY, "image": "alpine:3"}, replace=True)
        assert denied.code == "denied" and identity() == second

        docker("rm", "-f", "obi")
        docker("create", "--name", "obi", "--network=none", OTHER_IMAGE)
        assert (await call("deploy", **DEPLOY, replace=True)).code == "not_found"

    session(place, audit, work, "non-destructive")


def test_what_is_wrong_with_a_container_is_said_with_the_way_out(place: Ground, audit: Path) -> None:
    docker = place.daemon.docker

    async def work(call: Call) -> None:
        # no route and no agent_ip: OBI ends with 255
        ended = await call("deploy", **{**DEPLOY, "config": CONFIG.replace(f"  agent_ip: {INSIDE}\n", "")})
        assert ended.structured["ready"] is False and "255" in ended.structured["ended"]
        assert "no default route" in ended.structured["problems"][0]["cause"], ended.text
        await call("stop")

        with place.taken_port():
            taken = await call("deploy", **DEPLOY)
            assert taken.structured["ready"] is False and "exit code 0" in taken.structured["ended"], taken.text
            (row,) = (await call("status")).structured["containers"]
        assert row["exit_code"] == 0 and "port" in row["problems"][0]["cause"].lower(), (taken.text, row)
        await call("stop")

        # BPF maps count against the limit: with too little the kernel refuses them, with little more it kills
        refused = await call("deploy", **DEPLOY, memory_mib=16)
        assert "no room for BPF maps" in refused.structured["problems"][0]["cause"], refused.text
        await call("stop")

        small = await call("deploy", **DEPLOY, memory_mib=40)
        await asyncio.to_thread(wait_until, lambda: "exited" in docker("ps", "-a").stdout.lower(), "its end")
        (row,) = (await call("status")).structured["containers"]
        assert "memory" in row["ended"] and "memory" in row["problems"][0]["cause"], (small.text, row)
        await call("stop")

        assert (await call("deploy", **DEPLOY)).structured["ready"] is True
        docker("kill", "obi")
        (row,) = (await call("status")).structured["containers"]
        assert (row["state"], row["exit_code"]) == ("exited", 137) and "killed" in row["ended"]
        kept = await call("stop", remove=False)
        assert kept.structured["removed"] is False and "obi" in docker("ps", "-a").stdout
        await call("stop")

    session(place, audit, work)


def test_only_what_has_our_mark_and_our_image_is_ours(place: Ground, audit: Path) -> None:
    docker = place.daemon.docker
    docker("run", "-d", "--name", "labelled", "--network=none", "--label=obi-mcp.managed=true", OTHER_IMAGE, "pause")
    docker("create", "--name", "plain", "--network=none", OBI_IMAGE)
    docker("create", "--name", "obi", "--network=none", OTHER_IMAGE)

    async def work(call: Call) -> None:
        status = await call("status")
        assert (status.structured["containers"], status.structured["foreign"]) == ([], 1)
        missing = await call("stop", name="nobody")
        for name in ("labelled", "plain", "obi", docker("ps", "-aq", "--no-trunc").stdout.split()[0]):
            for tool in ("stop", "logs"):
                refused = await call(tool, name=name)
                assert refused.code == "not_found" and refused.is_error
                assert refused.structured["message"].replace(name, "nobody", 1) == missing.structured["message"]
                assert refused.structured["hint"] == missing.structured["hint"]
        taken = await call("deploy", **DEPLOY)
        assert taken.code == "conflict" and "not OBI's" in taken.text
        assert sorted(docker("ps", "-a", "--format={{.Names}}").stdout.split()) == ["labelled", "obi", "plain"]
        assert "Up" in docker("ps", "--filter=name=labelled").stdout

    session(place, audit, work)
    lines = [effect for tool, effect, _ in audited(audit) if tool in ("obi_docker_stop", "obi_docker_logs")]
    assert lines == ["", *8 * ["deny"]]  # nobody is nowhere: nothing was to be decided


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    # what is asked, the code, a word of the answer
    ({"image": "alpine:3", "network": True}, "denied", "scope.images"),
    ({"image": f"{OBI_IMAGE}-none", "network": True}, "image_missing", "docker load"),
    ({"config": CONFIG.replace("network:", "netwrk:")}, "invalid_document", "did you mean network"),
    ({"network": True, "otlp_endpoint": "http://evil.example:4318"}, "denied", "evil.example"),
    ({"network": True, "env": {"LD_PRELOAD": "/x.so"}}, "denied", "LD_PRELOAD"),
    ({"network": True, "env": {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=x"}}, "denied", "OTLP_HEADERS"),
    ({"network": True, "capabilities": ["SYS_MODULE"]}, "denied", "SYS_MODULE"),
    ({"network": True, "capabilities": ["rm -rf"]}, "invalid_argument", "no capability"),
    ({"network": True, "mounts": ["/etc"]}, "denied", "/etc may not be mounted"),
    ({"network": True, "mounts": ["/var/run/docker.sock"]}, "denied", "docker.sock may not be mounted"),
    ({"network": True, "mounts": ["etc"]}, "invalid_argument", "no absolute path"),
    ({"network": True, "name": "../x"}, "invalid_argument", "name of obi_docker_deploy"),
    ({}, "invalid_argument", "open_port"),
    ({"config": CONFIG, "network": True}, "invalid_argument", "besides"),
    ({"network": True, "open_port": "http"}, "invalid_argument", "8080"),
    # this engine is too old for the least capabilities, and says so
    ({"network": True}, "host_unfit", "upgrade Docker to 23"),
]


def test_what_may_not_or_cannot_run_is_refused_with_the_reason_and_nothing_is_made(place: Ground, audit: Path) -> None:
    async def work(call: Call) -> None:
        for given, code, word in REFUSED:
            refused = await call("deploy", **{"image": OBI_IMAGE, **given})
            assert (refused.code, refused.is_error) == (code, True) and word in refused.text, (given, refused.text)
        assert place.daemon.docker("ps", "-aq").stdout == ""

    session(place, audit, work, access="non-destructive")


def test_an_engine_that_goes_away_and_comes_back(place: Ground, audit: Path) -> None:
    daemon = place.daemon

    async def work(call: Call) -> None:
        async def killed_within_a_deploy() -> Outcome:
            deploying = asyncio.create_task(call("deploy", **DEPLOY))
            await asyncio.to_thread(wait_until, lambda: daemon.docker("ps", "-aq").stdout != "", "the container")
            daemon.kill()
            broken = await deploying
            daemon.start()
            return broken

        assert (await call("deploy", **{**DEPLOY, "restart": "unless-stopped"})).structured["ready"] is True
        daemon.kill()
        gone = await call("status")
        assert gone.code == "engine_unreachable" and "systemctl start docker" in gone.text
        daemon.start()
        # the engine starts it again by itself
        await asyncio.to_thread(wait_until, lambda: "Up" in daemon.docker("ps").stdout, "the restart")
        (row,) = (await call("status")).structured["containers"]
        assert (row["name"], row["state"]) == ("obi", "running")
        assert (await call("stop")).structured["removed"] is True

        while (broken := await killed_within_a_deploy()).structured.get("ready"):
            daemon.docker("rm", "-f", "obi")  # it was ready before the engine was gone: once more
        assert broken.code in ("engine_unreachable", ""), broken.text
        assert (await call("status")).structured["engine"]["version"].startswith("20.10")

    session(place, audit, work)


def test_a_compose_file_is_what_the_policy_would_run(place: Ground, audit: Path) -> None:
    async def work(call: Call) -> None:
        made = await call("generate_compose", image=OBI_IMAGE, config=CONFIG, otlp_endpoint="http://127.0.0.1:4318")
        assert "cap_drop" in made.structured["compose"] and made.structured["compose"].startswith("# OBI by Docker")
        denied = await call("generate_compose", image="alpine", network=True)
        assert denied.code == "denied"

    session(place, audit, work, "read-only")


def test_an_engine_of_today_gives_the_least_capabilities_and_they_are_enough(modern_place: Ground, audit: Path) -> None:
    """The engine's own seccomp profile is on. Beyla 1.8 asks for one capability more than OBI does, and names it."""
    least = {"image": OBI_IMAGE, "config": CONFIG.replace("enforce_sys_caps: false", ""), "restart": "no"}
    place = modern_place

    async def work(call: Call) -> None:
        refused = await call("deploy", **least)
        assert refused.structured["plan"]["capabilities"] == ["BPF", "PERFMON", "NET_RAW"], refused.text
        (problem,) = refused.structured["problems"]
        assert refused.structured["ready"] is False and "CAP_DAC_READ_SEARCH" in problem["evidence"]
        await call("stop")

        # Under its own name it gets what it asks for.
        assert place.daemon.docker("tag", OBI_IMAGE, "grafana/beyla:1.8.0").returncode == 0
        deployed = await call("deploy", **{**least, "image": "grafana/beyla:1.8.0"})
        assert deployed.structured["ready"] is True and deployed.structured["problems"] == [], deployed.text
        host = json.loads(place.daemon.docker("inspect", "obi").stdout)[0]["HostConfig"]
        assert host["Privileged"] is False and host["CapDrop"] == ["ALL"]
        assert {name.removeprefix("CAP_") for name in host["CapAdd"]} == {
            "BPF", "PERFMON", "NET_RAW", "DAC_READ_SEARCH",
        }  # fmt: skip
        # SELinux labels the engine leaves out by itself where the host's processes are to be seen
        assert [one for one in host["SecurityOpt"] if one != "label=disable"] == ["no-new-privileges"]
        place.request(20)
        await asyncio.to_thread(wait_until, lambda: f'dst_address="{PEER}"' in place.metrics(), "flows in the metrics")
        assert (await call("status")).structured["engine"]["version"].startswith("29.")
        assert (await call("stop")).structured["exit_code"] == 0

    session(place, audit, work)
