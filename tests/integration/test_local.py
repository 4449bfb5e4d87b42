"""OBI on one host: the real eBPF agent (Beyla 1.8) in a network namespace of its own, through a real MCP client."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.local_host import BODY, CONFIG, FLOWS, METRICS, LocalHost, Served, local_host, real_agent, until

from obi_mcp.audit_chain import verify

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces and eBPF need root"),
]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[LocalHost]:
    with local_host(f"local-{os.getpid()}", tmp_path, real_agent()) as made:
        (tmp_path / "etc").mkdir()
        yield made
        assert made.processes() == []


async def flow_bytes(served: Served) -> float:
    """The sum of the flow metric, as the status shows it."""
    status = await served.call("obi_get_status")
    return float(sum(entry.get("totals", {}).get(FLOWS, 0) for entry in status.data.get("exporters", ())))


async def _is_seen(host: LocalHost, served: Served, requests: int, what: str) -> None:
    """Makes requests, and waits until the flow metric has their answers."""
    host.traffic(requests)

    async def seen() -> bool:
        return await flow_bytes(served) > requests * BODY

    await until(seen, what)


def test_from_deploy_to_stop(host: LocalHost) -> None:
    async def scenario() -> None:
        async with host.serve() as served:
            await _deployed_and_seen(host, served)
            await _changed(host, served)
            await _wrong_changes_are_refused(host, served)
            stopped = await served.call("obi_stop")
            assert not stopped.is_error, stopped.text
            assert (await served.call("obi_get_status")).data["state"] == "stopped"

    asyncio.run(scenario())
    assert sorted(path.name for path in host.agent.iterdir()) == [
        "agent.json",
        "agent.lock",
        "agent.log",
        "config.previous.yaml",
        "config.yaml",
    ]
    assert all(not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO) for path in host.agent.iterdir())
    found = verify(host.audit)
    assert found.good
    lines = [json.loads(line) for line in host.audit.read_text().splitlines()]
    rules = {line["rule"] for line in lines}
    assert rules >= {
        "local.read",
        "local.start",
        "local.stop",
        "local.restart",
        "local.config.write",
        "hard.agent-config",
    }


async def _deployed_and_seen(host: LocalHost, served: Served) -> None:
    """From nothing to an agent whose metric, log and status show the traffic."""
    absent = await served.call("obi_get_status")
    assert absent.data["state"] == "absent"
    planned = await served.call("obi_local_deploy", config=CONFIG, dry_run=True)
    assert planned.data["decision"]["effect"] == "allow"
    # What its file says of it holds before it was ever started: a later Beyla's key is one that this one ignores.
    newer = await served.call("obi_deploy_local", config=CONFIG + "stats: {agent_ip: 10.98.7.1}\n")
    assert (newer.code, "Beyla v1.8.0 does not have this key" in newer.message) == ("invalid_document", True)
    assert not (host.agent / "config.yaml").exists()
    made = await served.call("obi_deploy_local", config=CONFIG)
    assert not made.is_error, made.text
    assert (made.data["ready"], made.data["version"]) == (True, "v1.8.0")
    assert any("Flows agent successfully started" in line for line in made.data["lines"])
    await _is_seen(host, served, 20, "the metric has the traffic")
    status = await served.call("obi_get_status")
    assert (status.data["state"], status.data["pid"]) == ("running", made.data["pid"])
    assert status.data["features"] == ["network"]
    assert status.data["memory_bytes"] > 10_000_000
    flows = await served.call("obi_get_logs", kind="flow", grep="dst.port=8000", tail=5)
    assert flows.data["records"][-1]["fields"]["dst.address"] == "10.98.7.2"
    logs = await served.call("obi_get_logs", level="INFO", since="10m")
    assert any(record["message"] == "starting Flows agent" for record in logs.data["records"])
    assert all(record["kind"] == "log" for record in logs.data["records"])
    assert 'level=INFO msg="starting Flows agent" component=agent.Flows' in logs.text
    again = await served.call("obi_deploy_local", config=CONFIG)
    assert (again.code, again.is_error) == ("conflict", True)


async def _changed(host: LocalHost, served: Served) -> None:
    """Another port by a patch: the comments stay, the agent is started again, and the traffic is seen there."""
    other = METRICS + 1
    made = await served.call("obi_update_config", patch={"prometheus_export": {"port": other}})
    assert not made.is_error, made.text
    assert (made.data["restarted"], made.data["ready"]) == (True, True)
    assert f"+prometheus_export: {{port: {other}}}" in made.data["diff"]
    text = (host.agent / "config.yaml").read_text()
    assert "# the flows of one link" in text
    await _is_seen(host, served, 5, "the metric on the new port has the traffic")
    config = await served.call("obi_get_config")
    assert config.data["values"]["prometheus_export.port"]["value"] == other
    assert config.data["values"]["prometheus_export.port"]["source"] == "file"


async def _wrong_changes_are_refused(host: LocalHost, served: Served) -> None:
    """What the validator, the policy or OBI itself refuses leaves the old configuration in place and at work."""
    before, text = host.record()["agent"]["pid"], (host.agent / "config.yaml").read_text()
    wrong: list[tuple[dict[str, Any], str, str]] = [
        ({"promtheus_export": {"port": 1}}, "invalid_document", "prometheus_export"),
        ({"discovery": {"instrument": [{"open_ports": "80"}]}}, "invalid_document", "v1.8.0 does not have"),
        ({"otel_metrics_export": {"endpoint": "http://${HOST_IP}:4318"}}, "invalid_document", "does not replace"),
        ({"otel_metrics_export": {"endpoint": "http://collector.example.org:4318"}}, "denied", "example.org"),
        ({"profile_port": 6060}, "denied", "pprof"),
    ]
    for patch, code, message in wrong:
        refused = await served.call("obi_update_config", patch=patch)
        assert (refused.code, message in refused.message) == (code, True), refused.text
        assert (host.record()["agent"]["pid"], (host.agent / "config.yaml").read_text()) == (before, text)
    # Good for the validator and the policy, and yet OBI ends with it.
    patch = {"network": {"agent_ip": None, "agent_ip_iface": "name:nosuch0"}}
    refused = await served.call("obi_update_config", patch=patch)
    assert (refused.code, "the old configuration is in place again" in refused.message) == ("conflict", True)
    assert (host.agent / "config.yaml").read_text() == text
    assert host.record()["agent"]["pid"] != before
    await _is_seen(host, served, 5, "the old configuration works again")


def test_what_was_killed_comes_back_and_what_was_left_is_adopted(host: LocalHost) -> None:
    async def scenario() -> None:
        async with host.serve() as served:
            made = await served.call("obi_deploy_local", config=CONFIG)
            first = made.data["pid"]
            os.kill(first, signal.SIGKILL)

            async def again() -> bool:
                status = await served.call("obi_get_status")
                return bool(status.data["state"] == "running" and status.data.get("pid", first) != first)

            await until(again, "the agent was started again")
            status = await served.call("obi_get_status")
            assert (status.data["restarts"], status.data["last_exit"].split(" after")[0]) == (1, "signal 9")
            said = await served.call("obi_get_logs", level="WARN", grep="obi-mcp.keeper")
            assert [record["message"].split(" after")[0] for record in said.data["records"]] == [
                "the agent ended: signal 9",
                "started again in 1 s",
            ]
            os.kill(served.pid, signal.SIGKILL)
        living = host.record()["agent"]["pid"]
        os.kill(living, 0)
        async with host.serve() as served:
            status = await served.call("obi_get_status")
            assert (status.data["state"], status.data["pid"]) == ("running", living)
            await _is_seen(host, served, 5, "the adopted agent works")
            assert not (await served.call("obi_stop")).is_error

    asyncio.run(scenario())


def test_an_agent_whose_keeper_was_killed_is_known_and_can_be_ended(host: LocalHost) -> None:
    quiet = CONFIG.replace("print_flows: true", "print_flows: false")  # it would end with its next line

    async def scenario() -> None:
        async with host.serve() as served:
            made = await served.call("obi_deploy_local", config=quiet)
            os.kill(host.record()["keeper"]["pid"], signal.SIGKILL)

            async def unkept() -> bool:
                return bool((await served.call("obi_get_status")).data["state"] == "unkept")

            await until(unkept, "the keeper is gone")
            refused = await served.call("obi_deploy_local", config=quiet)
            assert (refused.code, f"pid {made.data['pid']}" in refused.message) == ("conflict", True), refused.text
            stopped = await served.call("obi_stop")
            assert stopped.data["how"] == "ended by TERM", stopped.text

    asyncio.run(scenario())


def test_a_pid_that_became_anothers_is_not_signalled(host: LocalHost) -> None:
    other = subprocess.Popen(["sleep", "infinity"])
    try:
        asyncio.run(_asked_to_stop(host, other.pid))
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


async def _asked_to_stop(host: LocalHost, pid: int) -> None:
    async with host.serve() as served:
        await served.call("obi_deploy_local", config=CONFIG)
        await served.call("obi_stop")
        record = host.record()
        record["agent"] |= {"pid": pid, "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip()}
        record["agent"]["started"] = 12345
        (host.agent / "agent.json").write_text(json.dumps(record))
        refused = await served.call("obi_stop")
        assert refused.code == "not_found", refused.text
        refused = await served.call("obi_stop", pid=pid)
        assert (refused.code, refused.data["decision"]["rule"]) == ("denied", "hard.process")


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user may enter; pytest's own is closed to others."""
    with tempfile.TemporaryDirectory(prefix="obi-mcp-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_as_an_ordinary_user_the_error_says_how_to_give_what_is_missing(open_directory: Path) -> None:
    program = open_directory / "beyla"
    shutil.copy(real_agent(), program)
    program.chmod(0o755)
    home = open_directory / "home"
    (home / "etc").mkdir(parents=True)
    closed = home / "etc" / "closed.yaml"
    closed.write_text(CONFIG)
    closed.chmod(0o600)
    os.chown(home, 65534, 65534)
    prefix = (sys.executable, str(Path(__file__).with_name("as_nobody.py")), "65534")

    async def scenario(host: LocalHost) -> None:
        async with host.serve() as served:
            refused = await served.call("obi_deploy_local", config=CONFIG)
            assert refused.code == "host_unfit", refused.text
            assert "user 65534 lacks CAP_BPF" in refused.message
            way_out = re.search(r"sudo (setcap cap_bpf\S*\+ep \S+);", refused.message)
            assert way_out is not None, refused.message
            assert "docker run --pid=host --network=host --cap-add=BPF" in refused.message
            planned = await served.call("obi_deploy_local", config=CONFIG, dry_run=True)
            assert "capabilities" in {finding["subject"] for finding in planned.data["findings"]}
            unreadable = await served.call("obi_deploy_local", config_path=str(closed))
            assert (unreadable.code, "Permission denied" in unreadable.message) == ("program_failed", True)
            assert not (host.agent / "config.yaml").exists()
            # What it says is enough: nothing is restarted, and the user is still an ordinary one.
            subprocess.run(way_out[1].split(), check=True)
            made = await served.call("obi_deploy_local", config=CONFIG)
            assert (made.data.get("ready"), made.is_error) == (True, False), made.text
            await _is_seen(host, served, 5, "the metric has the traffic")
            stopped = await served.call("obi_stop")
            assert not stopped.is_error, stopped.text

    with local_host(f"nobody-{os.getpid()}", home, program, prefix=prefix) as host:
        asyncio.run(scenario(host))
        assert host.processes() == []


def test_what_cannot_work_is_said_before_the_start(host: LocalHost) -> None:
    (host.directory / "etc" / "link.yaml").symlink_to("/etc/shadow")
    (host.directory / "etc" / "latin.yaml").write_bytes(b"a: \xff\n")
    (host.directory / "etc" / "large.yaml").write_text("# " + "x" * 5_000_000)
    etc = host.directory / "etc"
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"config_path": f"{etc}/missing.yaml"}, "program_failed", "No such file"),
        ({"config_path": f"{etc}/link.yaml"}, "program_failed", "Too many levels of symbolic links"),
        ({"config_path": f"{etc}/latin.yaml"}, "program_failed", "no UTF-8 text"),
        ({"config_path": f"{etc}/large.yaml"}, "program_failed", "more than 1,048,576 bytes"),
        ({"config_path": "/etc/shadow"}, "denied", "no configuration file"),
        ({"config": "# " + "x" * 5_000_000}, "invalid_argument", "5,000,002 characters; at most 262,144"),
        ({"config": "network: {enable: true\n"}, "invalid_document", "line"),
        ({"config": "prometheus_export: {port: 9490}\n"}, "invalid_document", "OBI would not"),
        ({}, "invalid_argument", "nothing says what OBI should look at"),
        ({"config": CONFIG, "env": {"LD_PRELOAD": "/tmp/x.so"}}, "denied", "LD_PRELOAD"),
        ({"open_port": "8000"}, "host_unfit", "kprobe"),
    ]
    if Path("/sys/bus/event_source/devices/kprobe").exists():
        cases.pop()  # here tracing applications would work

    async def scenario() -> None:
        async with host.serve() as served:
            for arguments, code, message in cases:
                refused = await served.call("obi_deploy_local", **arguments)
                assert (refused.code, message in refused.message) == (code, True), (
                    f"{str(arguments)[:200]}: {refused.text[:500]}"
                )
            with listening(host, METRICS):
                refused = await served.call("obi_deploy_local", config=CONFIG)
                assert refused.code == "host_unfit"
                assert f"prometheus_export.port: another process listens on {METRICS}" in refused.message
            assert not (host.agent / "agent.json").exists()

    asyncio.run(scenario())


class listening:
    """Somebody else's port in the namespace."""

    def __init__(self, host: LocalHost, port: int) -> None:
        code = f"import socket; s = socket.create_server(('', {port})); print('ready', flush=True); s.accept()"
        words = ["nsenter", f"--net=/run/netns/{host.netns}", sys.executable, "-c", code]
        self._holder = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> None:
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n"

    def __exit__(self, *_: object) -> None:
        self._holder.kill()
        self._holder.wait()
        assert self._holder.stdout is not None
        self._holder.stdout.close()
