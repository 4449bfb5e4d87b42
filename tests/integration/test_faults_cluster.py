"""Faults of the API server and of the warm channel: what the caller gets, and that nothing is left. docs/faults.md.

kubectl, helm and the API server are the real ones; before the API server stands a double that fails as it is told
(``tests/faults/api_server.py``).
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.faults.api_server import ApiServer, Fault, How, api_server
from tests.faults.place import Call, Place, on_the_road, place, write_kubeconfig
from tests.sandbox.sandbox import Sandbox
from tests.unit.process.processes import descendants, wait_until
from tests.unit.process.test_faults_programs import command_line, fits

pytestmark = pytest.mark.integration
PODS = "kubectl get pods -n observability -o json | jq -r '.items | length'"
LIST = "kubectl get pods -n observability -o json"
SHORT_S = 5.0
"""Enough for a kubectl to start on a busy machine, and not long to wait where nothing answers."""
RETRY = (("Retry-After", "1"),)
STEP = "^check that the address in the kubeconfig can be reached from here"


@pytest.fixture
def at(programs_bin: Path) -> Iterator[Place]:
    with place() as made:
        made.kubectl.unlink()
        for name in ("kubectl", "helm", "jq"):
            (made.programs / name).symlink_to(programs_bin / name)
        yield made


@pytest.fixture(scope="module")
def double(sandbox: Sandbox) -> Iterator[ApiServer]:
    with api_server(sandbox) as running:
        yield running


def unreachable(message: str, hint: str) -> dict[str, Any]:
    return {"code": "^cluster_unreachable$", "message": message, "hint": hint}


def failed(message: str, hint: str) -> dict[str, Any]:
    return {"code": "^program_failed$", "message": message, "hint": hint}


def kubectl_says(words: str) -> dict[str, Any]:
    return {"exit_code": 1, "stderr": words, "truncated": False}


def answers(status: int, reason: str, headers: tuple[tuple[str, str], ...] = ()) -> Fault:
    return Fault("answers", status, reason, headers)


def breaks(how: How) -> Fault:
    return Fault(how)


# What the server's own reads make of it, and what kubectl itself does, when only its requests meet the fault.
FAULTS: list[tuple[Fault, dict[str, Any], dict[str, Any]]] = [
    (
        answers(403, "Forbidden"),
        failed(r"does not let this server read pods in namespace observability \(403\): the double says", "^give the"),
        kubectl_says(r"^Error from server \(Forbidden\): the double says Forbidden$"),
    ),
    (
        answers(404, "NotFound"),
        failed("^the API server answered 404 for pods in namespace observability: ", "^check that this kind exists$"),
        kubectl_says(r"^Error from server \(NotFound\)"),
    ),
    (
        answers(409, "Conflict"),
        failed("^the API server answered 409 for pods in namespace observability: ", "^check that this kind exists$"),
        kubectl_says(r"^Error from server \(Conflict\)"),
    ),
    (
        answers(429, "TooManyRequests", RETRY),
        unreachable("^the API server answered 429 for pods in namespace observability: ", "^try again when"),
        unreachable("^no API server answered kubectl: .*rate limiter", ".+"),
    ),
    (
        answers(500, "InternalError"),
        unreachable("^the API server answered 500 for pods in namespace observability: ", "^try again when"),
        kubectl_says(r"^Error from server \(InternalError\)"),
    ),
    (
        answers(503, "ServiceUnavailable"),
        unreachable("^the API server answered 503 for pods in namespace observability: ", "^try again when"),
        kubectl_says(r"^Error from server \(ServiceUnavailable\)"),
    ),
    (
        breaks("is silent"),
        unreachable(r"^no answer from the API server of here within [\d.]+ s$", "^check that it can be reached"),
        unreachable(
            "^no API server answered kubectl: .*(Client.Timeout exceeded while awaiting|context deadline exceeded)",
            STEP,
        ),
    ),
    (
        breaks("hangs within the body"),
        unreachable(r"^no answer from the API server of here within [\d.]+ s$", "^check that it can be reached"),
        kubectl_says("Unexpected error when reading response body"),
    ),
    (
        breaks("cuts the head"),
        unreachable("^kubectl could not get /api/v1/namespaces/observability/pods: .*malformed MIME header", STEP),
        unreachable("^no API server answered kubectl: .*malformed MIME header", STEP),
    ),
    (
        breaks("cuts the body"),
        unreachable("^kubectl proxy gave no answer: the answer ended too early$", "^try again$"),
        kubectl_says("unexpected EOF"),
    ),
    (
        breaks("no HTTP"),
        unreachable("^kubectl could not get /api/v1/namespaces/observability/pods: .*malformed HTTP", STEP),
        unreachable("^no API server answered kubectl: .*malformed HTTP", STEP),
    ),
    (
        breaks("no JSON"),
        failed("^the API server's answer for /api/v1/namespaces/observability/pods is not JSON: ", "obi-mcp doctor"),
        kubectl_says("invalid character"),
    ),
]


SLOW = ("is silent", "hangs within the body")


@pytest.mark.parametrize("channel", [True, False], ids=["to the server's reads", "to kubectl"])
def test_an_api_server_that_fails_is_told_as_it_fails_and_the_next_call_is_none_the_worse(
    at: Place, double: ApiServer, channel: bool
) -> None:
    write_kubeconfig(at.kubeconfig, double.address)

    async def use(call: Call) -> None:
        for fault, own, theirs in FAULTS:
            waits = fault.how in SLOW or fault.status == 429
            double.fault = replace(fault, channel=channel, path="/pods")
            try:
                expected, what = own if channel else theirs, f"{fault.how} {fault.status or ''}"
                result = await call(LIST, **({"timeout_s": SHORT_S} if waits else {}))
                if waits and result.structured.get("code") == "timeout":  # a busy machine had not come so far
                    result = await call(LIST, timeout_s=4 * SHORT_S)
                fits(result.structured, expected, what)
                assert "observability/obi" not in result.structured.get("stdout", "")
            finally:
                double.fault = None
                double.let_go.set()
                double.let_go.clear()
            assert int((await call(PODS)).structured["stdout"]) > 0, f"after {fault.how} {fault.status or ''}"

    on_the_road(at, use)


def test_an_api_server_that_is_down_and_comes_back(at: Place, double: ApiServer) -> None:
    held = socket.socket()  # bound, so that nobody else listens there
    held.bind(("127.0.0.1", 0))
    write_kubeconfig(at.kubeconfig, f"http://127.0.0.1:{held.getsockname()[1]}")

    async def use(call: Call) -> None:
        down = "start the cluster, or name another context|--network=host"
        fits((await call(LIST)).structured, unreachable("^kubectl could not get .*connection refused", down))
        fits((await call("kubectl api-versions")).structured, unreachable("connection refused|was refused", down))
        write_kubeconfig(at.kubeconfig, double.address)
        assert (await call(PODS)).structured["exit_code"] == 0

    with held:
        on_the_road(at, use)


def proxies() -> list[int]:
    """The warm channels below this process."""
    return [pid for pid in descendants(os.getpid()) if b"kubectl\0proxy\0" in command_line(pid)]


def test_a_warm_channel_that_is_killed_while_nobody_uses_it_is_not_missed(at: Place, double: ApiServer) -> None:
    write_kubeconfig(at.kubeconfig, double.address)

    async def use(call: Call) -> None:
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV):
            assert (await call(PODS)).structured["exit_code"] == 0
            (proxy,) = proxies()
            os.kill(proxy, number)
            await asyncio.to_thread(wait_until, lambda: not proxies(), "it is gone")
            assert (await call(PODS)).structured["exit_code"] == 0

    on_the_road(at, use)


def test_a_warm_channel_that_is_killed_in_use_fails_the_call_at_once_and_no_other(at: Place, double: ApiServer) -> None:
    write_kubeconfig(at.kubeconfig, double.address)

    async def use(call: Call) -> None:
        assert (await call(PODS)).structured["exit_code"] == 0
        double.fault = Fault("is silent", channel=True, path="/pods")
        before = double.seen
        waiting = asyncio.ensure_future(call(LIST))
        await asyncio.to_thread(wait_until, lambda: double.seen > before, "the call's read is under way")
        double.fault = None
        os.kill(proxies()[0], signal.SIGKILL)
        assert int((await waiting).structured.get("exit_code", 0)) == 0, "a read that had no answer yet is made again"
        double.let_go.set()
        double.let_go.clear()
        assert (await call(PODS)).structured["exit_code"] == 0

    on_the_road(at, use)


ENDINGS: list[tuple[str, Callable[[int], object]]] = [
    ("killed", lambda pid: os.kill(pid, signal.SIGKILL)),
    ("stopped", lambda pid: os.kill(pid, signal.SIGSTOP)),
]


@pytest.mark.parametrize(("end"), [row[1] for row in ENDINGS], ids=[row[0] for row in ENDINGS])
def test_a_warm_channel_that_fails_within_an_answer(at: Place, double: ApiServer, end: Callable[[int], object]) -> None:
    write_kubeconfig(at.kubeconfig, double.address)

    async def use(call: Call) -> None:
        assert (await call(PODS)).structured["exit_code"] == 0
        double.fault = Fault("hangs within the body", channel=True, path="/pods")
        before = double.seen
        waiting = asyncio.ensure_future(call(LIST, timeout_s=SHORT_S))
        await asyncio.to_thread(wait_until, lambda: double.seen > before, "the call's read is under way")
        end(proxies()[0])
        fits((await waiting).structured, {"code": "^cluster_unreachable$", "message": "no answer", "hint": ".+"})
        double.fault = None
        double.let_go.set()
        double.let_go.clear()

    on_the_road(at, use)
