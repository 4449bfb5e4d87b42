"""The warm channel and the runner with the real kubectl and helm, against the sandbox cluster."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.sandbox.sandbox import Sandbox
from tests.unit.process.processes import descendants, no_process_left, wait_until

from obi_mcp import config
from obi_mcp.config import Settings
from obi_mcp.errors import ClusterUnreachable, ProgramFailed, ProgramMissing
from obi_mcp.policy.model import Access, Approved, Decision, Output
from obi_mcp.process.api_path import is_read_path
from obi_mcp.process.channel import Channel, Channels
from obi_mcp.process.runner import Runner, TimedOut
from obi_mcp.redact import Redactor

pytestmark = pytest.mark.integration
REDACTOR = Redactor.load()
Work = Callable[[Runner, Channels], Awaitable[None]]


def approved(*stages: str, output: Output = Output(), access: Access = Access.READ_ONLY) -> Approved:  # noqa: B008
    """Stages as words separated by blanks; the first is the head."""
    argvs = [tuple(stage.split()) for stage in stages]
    return Approved(Decision("allow", "test", "a test", access), (argvs[0],), tuple(argvs[1:]), None, output)


def within(work: Work, kubeconfig: Path, *path: Path) -> None:
    """Runs ``work`` with a runner and its channels; afterwards no process of them may be left."""
    settings = Settings(programs=config.Programs(path=tuple(map(str, path)), kubeconfig=str(kubeconfig)))

    async def main() -> None:
        runner = Runner(settings, REDACTOR)
        channels = Channels(settings, runner)
        try:
            await work(runner, channels)
        finally:
            await channels.close()
            await runner.close()
        assert not runner.directory.root.exists()

    with no_process_left():
        asyncio.run(main())


@contextmanager
def deaf_api_server(folder: Path) -> Iterator[Path]:
    """A kubeconfig of an API server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []

        def take() -> None:
            try:
                while True:
                    taken.append(server.accept()[0])
            except OSError:
                return

        thread = threading.Thread(target=take)
        thread.start()
        try:
            yield kubeconfig(folder, f"http://127.0.0.1:{server.getsockname()[1]}")
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in taken:
                connection.close()


def kubeconfig(folder: Path, server: str, **user: object) -> Path:
    body = {
        "current-context": "a",
        "clusters": [{"name": "a", "cluster": {"server": server}}],
        "users": [{"name": "a", "user": user}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
    }
    (folder / "kubeconfig").write_text(json.dumps(body))
    return folder / "kubeconfig"


@contextmanager
def closed_port() -> Iterator[int]:
    """A port on which nobody listens, nor begins to within the block."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


def kubectls() -> list[int]:
    """Every kubectl that runs below this process."""
    found = []
    for pid in descendants(os.getpid()):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            if Path(f"/proc/{pid}/comm").read_text().strip() == "kubectl":
                found.append(pid)
    return found


def test_objects_lists_and_what_is_not_there(sandbox: Sandbox, programs_bin: Path) -> None:
    async def work(runner: Runner, channels: Channels) -> None:
        channel = channels.of(None)
        status, version = await channel.get_json("/version")
        assert (status, version["major"]) == (200, "1")
        namespace = sandbox.facts["obi"]["namespace"]
        status, pods = await channel.get_json(f"/api/v1/namespaces/{namespace}/pods?limit=500")
        assert status == 200 and {pod["metadata"]["name"] for pod in pods["items"]} >= set(
            sandbox.pods_by_node().values()
        )
        status, body = await channel.get_json(f"/api/v1/namespaces/{namespace}/pods/nobody")
        assert (status, body["reason"]) == (404, "NotFound")

    within(work, sandbox.kubeconfig, programs_bin)


def test_a_pods_metrics_and_logs_come_as_a_stream(sandbox: Sandbox, programs_bin: Path) -> None:
    obi = sandbox.facts["obi"]
    if obi["real_pod"] is None:
        pytest.skip("there is no real node here")

    async def work(runner: Runner, channels: Channels) -> None:
        channel = channels.of(sandbox.facts["context"])
        metrics = b"".join([piece async for piece in channel.stream(obi["metrics_path"])])
        assert b"# TYPE " in metrics
        log = f"/api/v1/namespaces/{obi['namespace']}/pods/{obi['real_pod']}/log?tailLines=1"
        assert b"".join([piece async for piece in channel.stream(log)])
        with pytest.raises(ProgramFailed, match="404"):
            async for _ in channel.stream(log.replace(obi["real_pod"], "nobody")):
                pass

    within(work, sandbox.kubeconfig, programs_bin)


def test_connections_are_kept_and_calls_go_side_by_side(sandbox: Sandbox, programs_bin: Path) -> None:
    async def work(runner: Runner, channels: Channels) -> None:
        channel = channels.of(None)
        answers = await asyncio.gather(*(channel.get_json("/version") for _ in range(200)))
        assert {status for status, _ in answers} == {200}
        assert len(kubectls()) == 1

    within(work, sandbox.kubeconfig, programs_bin)


def test_the_socket_is_private_and_the_proxy_refuses_writes_and_secrets(sandbox: Sandbox, programs_bin: Path) -> None:
    async def work(runner: Runner, channels: Channels) -> None:
        await channels.of(None).get_json("/version")
        (path,) = Path(runner.directory.path("sockets")).iterdir()
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
        for request, status in (
            ("GET /version", 200),
            ("GET /api/v1/secrets", 403),
            ("GET /api/v1/namespaces/kube-system/secrets/x", 403),
            ("GET /api/v1/nodes/x/proxy/logs", 403),
            ("GET /logs/", 404),
            ("POST /api/v1/namespaces", 403),
            ("DELETE /api/v1/namespaces/default", 403),
            ("PATCH /api/v1/namespaces/default", 403),
        ):
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(f"{request} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode())
            line = await reader.readline()
            writer.close()
            assert (request, int(line.split()[1])) in {(request, status), (request, 403)}

    within(work, sandbox.kubeconfig, programs_bin)


def test_a_proxy_that_dies_or_idles_is_started_again(sandbox: Sandbox, programs_bin: Path) -> None:
    async def work(runner: Runner, channels: Channels) -> None:
        channel = Channel(runner, None, idle_s=0.2)
        sockets = Path(runner.directory.path("sockets"))
        await channel.get_json("/version")
        assert len(list(sockets.iterdir())) == 1
        (proxy,) = kubectls()
        os.kill(proxy, 9)
        await asyncio.to_thread(wait_until, lambda: not Path(f"/proc/{proxy}").exists(), "the proxy is gone")
        assert (await channel.get_json("/version"))[0] == 200
        await asyncio.to_thread(wait_until, lambda: not list(sockets.iterdir()), "the idle proxy is stopped")
        assert (await channel.get_json("/version"))[0] == 200
        await channel.close()

    within(work, sandbox.kubeconfig, programs_bin)


def test_no_answer_is_an_error_that_says_what_to_do(tmp_path: Path, programs_bin: Path) -> None:
    async def refused(runner: Runner, channels: Channels) -> None:
        with pytest.raises(ClusterUnreachable, match="connection refused") as caught:
            await channels.of(None).get_json("/version")
        assert caught.value.hint and "obi-mcp doctor" in caught.value.hint

    async def deaf(runner: Runner, channels: Channels) -> None:
        with pytest.raises(ClusterUnreachable, match=r"no answer from the API server of a within 0\.5 s"):
            await channels.of(None).get_json("/version", timeout_s=0.5)

    async def unknown(runner: Runner, channels: Channels) -> None:
        with pytest.raises(ClusterUnreachable, match="context"):
            await channels.of("nowhere").get_json("/version")

    with closed_port() as port:
        within(refused, kubeconfig(tmp_path, f"http://127.0.0.1:{port}"), programs_bin)
        within(unknown, kubeconfig(tmp_path, f"http://127.0.0.1:{port}"), programs_bin)
    with deaf_api_server(tmp_path) as file:
        within(deaf, file, programs_bin)


def test_a_missing_credential_plugin_says_what_to_install(tmp_path: Path, programs_bin: Path) -> None:
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-plugin", "interactiveMode": "Never"}
    file = kubeconfig(tmp_path, "https://127.0.0.1:1", exec=plugin)

    async def work(runner: Runner, channels: Channels) -> None:
        with pytest.raises(ProgramMissing, match="gets its credentials from the program no-such-plugin"):
            await channels.of(None).get_json("/version")
        with pytest.raises(ProgramMissing, match="no-such-plugin"):
            await runner.run(approved("kubectl get pods"), timeout_s=30, max_bytes=1000)
        completed = await runner.run(approved("kubectl version --client=true"), timeout_s=30, max_bytes=1000)
        assert completed.exit_code == 0

    within(work, file, programs_bin)


def test_paths_that_are_not_read_never_reach_the_proxy(sandbox: Sandbox, programs_bin: Path) -> None:
    async def work(runner: Runner, channels: Channels) -> None:
        for path in ("/api/v1/secrets", "/api/v1/../x", "//x", "/api/v1/nodes/n/proxy/metrics"):
            assert not is_read_path(path)
            with pytest.raises(ProgramFailed, match="does not read the path"):
                await channels.of(None).get_json(path)
        assert not list(Path(runner.directory.path("sockets")).iterdir())

    within(work, sandbox.kubeconfig, programs_bin)


def test_kubectl_through_jq_and_filters(sandbox: Sandbox, programs_bin: Path) -> None:
    namespace = sandbox.facts["obi"]["namespace"]
    names = sorted(sandbox.pods_by_node().values())
    get = f"kubectl get pods -n {namespace} -l {sandbox.facts['obi']['selector']}"

    async def work(runner: Runner, channels: Channels) -> None:
        async def run(*stages: str, output: Output = Output()) -> tuple[bytes, int]:  # noqa: B008
            completed = await runner.run(approved(*stages, output=output), timeout_s=60, max_bytes=100_000)
            return completed.stdout, completed.exit_code

        json_output = Output("json")
        got, code = await run(f"{get} -o json", "jq -r .items[].metadata.name", "sort", output=json_output)
        assert (got.decode().split(), code) == (names, 0)
        bare, _ = await run(f"{get} -o json", output=Output("raw"))
        same, _ = await run(f"{get} -o json", output=json_output)
        assert json.loads(same)["items"][0]["metadata"] == json.loads(bare)["items"][0]["metadata"]
        assert (await run(f"{get} -o name", "wc -l")) == (f"{len(names)}\n".encode(), 0)
        assert (await run(f"{get} -o name", "grep nothing")) == (b"", 1)
        yaml_text, _ = await run(f"{get} -o json", output=Output("json", "yaml"))
        plain, _ = await run(f"{get} -o yaml", output=Output("raw"))
        import yaml

        assert [item["metadata"]["uid"] for item in yaml.safe_load(yaml_text)["items"]] == [
            item["metadata"]["uid"] for item in yaml.safe_load(plain)["items"]
        ]
        _, code = await run(f"kubectl get pod nobody -n {namespace}")
        assert code == 1
        listed, code = await run("helm list -A -o json", output=json_output)
        assert code == 0 and isinstance(json.loads(listed), list)

    within(work, sandbox.kubeconfig, programs_bin)


def test_a_head_that_hangs_is_ended_at_the_deadline_and_on_cancel(tmp_path: Path, programs_bin: Path) -> None:
    async def work(runner: Runner, channels: Channels) -> None:
        line = approved("kubectl get pods -o json", "jq .", output=Output("json"))
        with pytest.raises(TimedOut):
            await runner.run(line, timeout_s=1, max_bytes=1000)
        assert kubectls() == []
        task = asyncio.create_task(runner.run(line, timeout_s=60, max_bytes=1000))
        await asyncio.to_thread(wait_until, lambda: len(kubectls()) == 1, "kubectl runs")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert kubectls() == []

    with deaf_api_server(tmp_path) as file:
        within(work, file, programs_bin)


def test_a_kubectl_of_another_version_is_refused(tmp_path: Path, programs_bin: Path) -> None:
    settings = Settings(programs=config.Programs(path=(str(programs_bin),)))

    async def work() -> None:
        runner = Runner(settings, REDACTOR, described={"kubectl": "1.11.0"})
        try:
            with pytest.raises(ProgramMissing, match=r"grammar describes 1\.11\.0"):
                await runner.run(approved("kubectl version --client=true"), timeout_s=30, max_bytes=1000)
        finally:
            await runner.close()

    asyncio.run(work())
