"""Faults of the client and of whoever stops the server: a real ``obi-mcp serve``, a kubectl that is a double.

docs/faults.md. The double (``tests/faults/place.py``) is there so that a call hangs for certain; no cluster is needed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.faults.place import API_VERSIONS, PERL, Place, place
from tests.faults.process import HELLO, Server, logged, server
from tests.unit.process.processes import PATIENCE_S, descendants, wait_until

from obi_mcp.audit_chain import verify

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not os.path.exists(PERL), reason="the kubectl double needs Perl, and it is not here"),
]
HANG = "print qq(begun\\n); sleep 1000 while 1"


@pytest.fixture
def at() -> Iterator[Place]:
    with place() as made:
        yield made


def running(at: Place, process: subprocess.Popen[bytes]) -> int:
    """How many kubectls of this place run below the server, without those that are asked for their version."""
    count = 0
    for pid in descendants(process.pid):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read()
                count += str(at.kubectl).encode() in words and b"api-versions" in words
        except OSError:
            continue
    return count


def begin_call(at: Place, with_server: Server, number: object = "hanging") -> None:
    at.behave(HANG)
    before = running(at, with_server.process)
    with_server.call(number, API_VERSIONS, timeout_s=300)
    wait_until(lambda: running(at, with_server.process) > before, "the call's kubectl runs")


def shake_hands(with_server: Server, reading: int) -> None:
    """Initializes where the test holds the end from which answers are read."""
    with_server.ask(0, "initialize", **HELLO)
    answer = b""
    while not answer.endswith(b"\n"):
        answer += os.read(reading, 65_536)
    assert json.loads(answer)["id"] == 0
    with_server.tell("notifications/initialized")


def audited(at: Place) -> list[str | None]:
    return [json.loads(line)["error"] for line in at.audit.read_text().splitlines()]


# --- what a client may send without harm ---

DEEP = b"[" * 100_000
RUBBISH: list[tuple[str, bytes, int | None]] = [
    ("not JSON", b"this is no JSON", None),
    ("binary", bytes(range(1, 10)) + bytes(range(11, 256)) * 40, None),
    ("a NUL", b"\x00", None),
    ("half a message", b'{"jsonrpc":"2.0","id":1,"meth', None),
    ("an array", b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', None),
    ("a number", b"42", None),
    ("a hundred thousand brackets", DEEP, None),
    ("no method", b'{"jsonrpc":"2.0","id":"x"}', None),
    ("another version", b'{"jsonrpc":"1.0","id":"x","method":"ping"}', None),
    ("an answer to nothing", b'{"jsonrpc":"2.0","id":99,"result":{}}', None),
    ("an unknown notification", b'{"jsonrpc":"2.0","method":"notifications/nonsense","params":{"a":[1]}}', None),
    (
        "a cancelled call that never was",
        b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}',
        None,
    ),
    ("an unknown method", b'{"jsonrpc":"2.0","id":"x","method":"nonsense"}', -32601),
    (
        "parameters of another shape",
        b'{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":["obi"]}}',
        -32602,
    ),
    (
        "an unknown tool",
        b'{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":"rm","arguments":{}}}',
        -32602,
    ),
]


def test_rubbish_is_refused_or_ignored_and_harms_nobody(at: Place) -> None:
    with server(at) as running_server:
        running_server.initialize()
        begin_call(at, running_server)
        for what, line, code in RUBBISH:
            running_server.send(line + b"\n")
            if code is not None:
                assert running_server.answer("x")["error"]["code"] == code, what
            assert running_server.unanswered("x"), what
        at.behave("print qq(v1\\n)")
        running_server.call("good", API_VERSIONS)
        assert running_server.answer("good")["result"]["structuredContent"]["stdout"] == "v1\n"
        assert running(at, running_server.process) == 1, "the call that ran still runs"
    assert audited(at) == [None, "cancelled"]


WRONG_ARGUMENTS: list[tuple[str, dict[str, Any], str]] = [
    ("none", {}, "command"),
    ("null", {"command": None}, "command"),
    ("a list", {"command": ["kubectl"]}, "command"),
    ("one too many", {"command": API_VERSIONS, "shell": True}, "shell"),
    ("a negative time", {"command": API_VERSIONS, "timeout_s": -1}, "timeout_s"),
    ("no number", {"command": API_VERSIONS, "timeout_s": "1"}, "timeout_s"),
    ("endless", {"command": API_VERSIONS, "timeout_s": 1e300}, "timeout_s"),
    ("a megabyte of command", {"command": "kubectl " + "x" * 1_000_000}, "command"),
    ("two megabytes of document", {"command": "kubectl apply -f -", "stdin": "x" * 2_000_000}, "stdin"),
]


def test_wrong_arguments_run_nothing(at: Place) -> None:
    at.behave("open(my $f, '>', qq($folder/../ran)); exit 0")
    with server(at) as running_server:
        running_server.initialize()
        for number, (what, arguments, named) in enumerate(WRONG_ARGUMENTS):
            running_server.ask(f"call {number}", "tools/call", name="obi_kubectl", arguments=arguments)
            content = running_server.answer(f"call {number}")["result"]["structuredContent"]
            assert content["code"] == "invalid_argument" and named in content["message"], (what, content)
        running_server.send(
            b'{"jsonrpc":"2.0","id":"nan","method":"tools/call","params":{"name":"obi_kubectl",'
            b'"arguments":{"command":"kubectl api-versions","timeout_s":NaN}}}\n'
        )
        content = running_server.answer("nan")["result"]["structuredContent"]
        assert content["code"] == "invalid_argument" and "timeout_s" in content["message"], content
    assert set(audited(at)) == {"invalid_argument"}


@pytest.mark.parametrize("id_first", [True, False])
def test_ten_megabytes_in_a_line_are_refused_with_the_number_of_the_request(at: Place, id_first: bool) -> None:
    rest = {"method": "tools/call", "params": {"name": "obi_kubectl", "arguments": {"command": "x" * 10_000_000}}}
    ends = {"jsonrpc": "2.0", "id": 12}
    message = {**ends, **rest} if id_first else {**rest, **ends}
    with server(at) as running_server:
        running_server.initialize()
        before = peak_kb(running_server.process)
        running_server.send(json.dumps(message).encode() + b"\n")
        error = running_server.answer(12)["error"]
        assert error["code"] == -32600 and error["message"].startswith("a message of 10,000,1")
        running_server.send(b"y" * 200_000_000 + b"\n")
        assert running_server.answer(None)["error"]["message"] == "a message of 200,000,000 bytes is too long"
        running_server.ask(13, "ping")
        assert running_server.answer(13)["result"] == {}
        assert peak_kb(running_server.process) - before < 60_000, "no line is kept that is too long"


def peak_kb(process: subprocess.Popen[bytes]) -> int:
    with open(f"/proc/{process.pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))


def test_a_thousand_requests_at_once_are_all_answered_and_the_last_are_told_to_wait(at: Place) -> None:
    at.behave("print qq(v1\\n)")
    with server(at) as running_server:
        running_server.initialize()
        lines = [
            json.dumps(
                {
                    "jsonrpc": "2.0",
                    "id": number,
                    "method": "tools/call",
                    "params": {"name": "obi_kubectl", "arguments": {"command": API_VERSIONS, "timeout_s": 300}},
                }
            )
            for number in range(1000)
        ]
        running_server.send("\n".join(lines).encode() + b"\n")
        answers = [running_server.answer(number)["result"]["structuredContent"] for number in range(1000)]
    good = [answer for answer in answers if answer.get("stdout") == "v1\n"]
    busy = [answer for answer in answers if answer.get("code") == "busy"]
    assert len(good) + len(busy) == 1000 and len(good) >= 16 + 256
    assert all(answer["hint"] == "try again in a few seconds" for answer in busy)
    assert verify(at.audit).good and len(audited(at)) == 1000


def test_a_client_that_never_reads_is_waited_for_and_keeps_nothing_alive(at: Place) -> None:
    at.behave("my $block = ('x' x 99 . qq(\\n)) x 100; print $block for 1 .. 90")
    reading, writing = os.pipe()
    with server(at, stdout=writing) as running_server:
        os.close(writing)
        shake_hands(running_server, reading)
        for number in range(100):
            running_server.call(number, API_VERSIONS, max_bytes=100_000)
        wait_until(lambda: at.audit.exists() and len(audited(at)) >= 20, "some calls have run")
        assert running_server.process.stdin is not None
        running_server.process.stdin.close()
        assert running_server.process.wait(PATIENCE_S) == 0
    os.close(reading)
    assert verify(at.audit).good


def test_a_cancelled_call_ends_and_has_no_answer(at: Place) -> None:
    with server(at) as running_server:
        running_server.initialize()
        begin_call(at, running_server)
        running_server.tell("notifications/cancelled", requestId="hanging", reason="no longer needed")
        wait_until(lambda: running(at, running_server.process) == 0, "its kubectl is gone")
        assert running_server.unanswered("hanging")
        wait_until(lambda: audited(at) == ["cancelled"], "the audit line is written")


# --- what ends a server ---


def close_input(running_server: Server) -> None:
    assert running_server.process.stdin is not None
    running_server.process.stdin.close()


ENDS: list[tuple[str, Callable[[Server], object], int]] = [
    ("SIGTERM", lambda running: running.process.send_signal(signal.SIGTERM), 0),
    ("SIGINT", lambda running: running.process.send_signal(signal.SIGINT), 0),
    ("SIGHUP", lambda running: running.process.send_signal(signal.SIGHUP), 0),
    ("SIGKILL", lambda running: running.process.send_signal(signal.SIGKILL), -9),
    ("SIGSEGV", lambda running: running.process.send_signal(signal.SIGSEGV), -11),
    ("the client leaves", close_input, 0),
]


@pytest.mark.parametrize(("end", "code"), [row[1:] for row in ENDS], ids=[row[0] for row in ENDS])
def test_what_ends_the_server_ends_its_calls(at: Place, end: Callable[[Server], object], code: int) -> None:
    with server(at) as running_server:
        running_server.initialize()
        begin_call(at, running_server)
        end(running_server)
        assert running_server.process.wait(PATIENCE_S) == code
    assert not any("stdout" in str(message) for message in running_server.said()), (
        "what was cut off is not given as whole"
    )
    if code == 0:
        assert audited(at) == ["cancelled"]
        assert verify(at.audit, logged(at)[-1]["audit_head"]).good
    elif at.audit.exists():
        assert verify(at.audit).good


def test_a_closed_standard_output_ends_the_server_and_its_calls(at: Place) -> None:
    reading, writing = os.pipe()
    with server(at, stdout=writing) as running_server:
        os.close(writing)
        shake_hands(running_server, reading)
        begin_call(at, running_server)
        os.close(reading)
        assert running_server.process.wait(PATIENCE_S) == 0
    assert audited(at) == ["cancelled"]


@pytest.mark.parametrize(("closed", "code"), [("<&-", 2), (">&-", 2), ("2>&-", 0)])
def test_a_stream_that_is_closed_from_the_start(at: Place, closed: str, code: int) -> None:
    """Whatever the server opens must not take the number of a standard stream."""
    environment = {**at.environment(), "PYTHONPATH": f"{__file__.partition('/tests/')[0]}/server"}
    command = f'exec "$0" -m obi_mcp serve {closed}'
    done = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable],
        env=environment,
        cwd=at.root,
        input=b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n' if closed != "<&-" else None,
        stdin=subprocess.DEVNULL if closed == "<&-" else None,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == code, done.stderr
    if closed == ">&-":
        assert b"standard output is closed" in done.stderr
    if closed == "<&-":
        assert b"standard input is closed" in done.stderr
    assert not at.audit.exists() or at.audit.read_bytes() == b"", "no log line is in the audit log"
