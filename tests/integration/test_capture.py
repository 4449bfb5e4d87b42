"""The capture of a server that is confined: it starts, takes a real SDK's spans, and goes with the server."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.local_host import CONFIG, local_host, real_agent

from obi_mcp.config import Capture as CaptureSection
from obi_mcp.config import Settings
from obi_mcp.process.kernel import landlock_abi
from obi_mcp.telemetry.capture import Capture

pytestmark = pytest.mark.integration


def test_one_receiver_is_started_for_all_who_ask_and_a_dead_one_is_replaced(tmp_path: Path) -> None:
    async def main() -> None:
        capture = Capture(Settings(capture=CaptureSection(directory=str(tmp_path))))
        assert capture.receiver is None
        first, second = await asyncio.gather(capture.start(), capture.start())
        assert first is second is capture.receiver
        assert first.pid is not None
        os.kill(first.pid, 9)
        while capture.receiver is not None:
            await asyncio.sleep(0.01)
        third = await capture.start()
        assert third is not first and (await third.counts()).requests == 0
        await capture.close()
        assert capture.receiver is None
        await capture.close()

    asyncio.run(main())
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(landlock_abi() == 0, reason="this kernel offers no Landlock")
@pytest.mark.parametrize("toolset", ["local", "docker"])
def test_it_works_in_a_server_that_is_held_to_its_files(tmp_path: Path, toolset: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CONFINED, toolset],
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == ["reading and writing", "1"], done.stderr
    assert os.listdir(tmp_path / "obi-mcp" / "capture") == []


CONFINED = """
import asyncio, http.client, sys
from dataclasses import replace
from obi_mcp.config import Settings
from obi_mcp.process.confinement import confine_server
from obi_mcp.process.programs import find_programs
from obi_mcp.telemetry.capture import Capture

# Nothing is captured for an OBI on this host where there is none.
local = replace(Settings().local, binary="/bin/true")
settings = Settings(toolsets=(sys.argv[1],), local=local)
print(confine_server(settings, find_programs(settings)).held, flush=True)
BODY = b'''{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "5b8efff798038103d269b633813fc60c",
 "spanId": "eee19b7ec3c1b174", "name": "a", "startTimeUnixNano": "5", "endTimeUnixNano": "6"}]}]}]}'''

async def main():
    capture = Capture(settings)
    receiver = await capture.start()
    connection = http.client.HTTPConnection(receiver.endpoint.removeprefix("http://"))
    connection.request("POST", "/v1/traces", BODY, {"Content-Type": "application/json"})
    assert connection.getresponse().status == 200
    connection.close()
    print((await receiver.query("SELECT count(*) FROM spans")).rows[0][0])
    await capture.close()

asyncio.run(main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces and eBPF need root")
def test_a_real_agent_that_is_told_to_capture_sends_its_flows_to_the_server(tmp_path: Path) -> None:
    config = CONFIG + "otel_metrics_export: {interval: 1s, features: [network]}\n"

    async def main() -> None:
        async with host.serve() as served:
            both = await served.call(
                "obi_deploy_local", config=config, capture=True, otlp_endpoint="http://127.0.0.1:1"
            )
            assert both.code == "invalid_argument"
            planned = await served.call("obi_deploy_local", config=config, capture=True, dry_run=True)
            assert planned.data["decision"]["effect"] == "allow"
            assert "capture" not in (await served.call("obi_get_status")).data

            deployed = await served.call("obi_deploy_local", config=config, capture=True)
            assert deployed.data["ready"] is True and deployed.data["capture"].startswith("http://127.0.0.1:")
            async with asyncio.timeout(120):
                while True:
                    host.traffic(5)
                    status = await served.call("obi_get_status")
                    if status.data["capture"]["metrics"]["kept"]:
                        break
                    await asyncio.sleep(0.2)
            capture = status.data["capture"]
            assert capture["endpoint"] == deployed.data["capture"]
            assert capture["refused"] == {} and capture["metrics"]["rejected"] == 0
            assert "metric points" in status.text
            assert (await served.call("obi_stop")).data["pid"] == deployed.data["pid"]

    with local_host(f"capture-{os.getpid()}", tmp_path, real_agent()) as host:
        (tmp_path / "etc").mkdir()
        asyncio.run(main())
        assert host.processes() == []
    assert os.listdir(tmp_path / "state" / "obi-mcp" / "capture") == []
