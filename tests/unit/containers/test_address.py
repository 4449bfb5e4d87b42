"""Where the engine is looked for, and what is said when nothing usable is there."""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import socket
import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import pytest

from obi_mcp.config import Docker, Settings
from obi_mcp.containers.address import SYSTEM_SOCKET, engine_address
from obi_mcp.containers.engine import Engine
from obi_mcp.containers.failures import unfit
from obi_mcp.errors import ConfigError, EngineUnreachable

ADDRESSES: list[tuple[str | None, dict[str, str], str]] = [
    # docker.host, the environment, the address
    (None, {}, SYSTEM_SOCKET),
    (None, {"DOCKER_HOST": ""}, SYSTEM_SOCKET),
    (None, {"DOCKER_HOST": "unix:///run/user/1000/docker.sock"}, "unix:///run/user/1000/docker.sock"),
    ("unix:///a.sock", {"DOCKER_HOST": "tcp://other:2376"}, "unix:///a.sock"),
    ("tcp://10.0.0.1:2376", {}, "tcp://10.0.0.1:2376"),
]

NO_ADDRESSES = [
    # what is configured, a word of the way out
    ("ssh://me@host", "forward the socket"),
    ("unix://relative.sock", "unix:///var/run/docker.sock"),
    ("tcp://host", "tcp://HOST:2376"),
    ("tcp://user:password@host:2376", "tcp://HOST:2376"),
    ("http://host:2375", "tcp://HOST:2376"),
    ("/var/run/docker.sock", "unix:///var/run/docker.sock"),
    ("tcp://host:port", "tcp://HOST:2376"),
]


@pytest.mark.parametrize(("host", "environ", "expected"), ADDRESSES)
def test_the_setting_wins_over_the_environment(host: str | None, environ: dict[str, str], expected: str) -> None:
    assert engine_address(Settings(docker=Docker(host=host)), environ).url == expected


@pytest.mark.parametrize(("host", "hint"), NO_ADDRESSES)
def test_what_is_no_address_is_refused_with_the_way_out(host: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        engine_address(Settings(docker=Docker(host=host)), {})
    assert hint in str(caught.value.hint)


def test_tls_takes_the_files_that_the_docker_command_takes_or_names_those_that_are_missing(tmp_path: Path) -> None:
    settings = Settings(docker=Docker(host="tcp://host:2376"))
    environ = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path)}
    (tmp_path / "ca.pem").touch()
    with pytest.raises(ConfigError, match=r"has no cert\.pem, key\.pem"):
        engine_address(settings, environ)
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).touch()
    assert engine_address(settings, environ).certificates == str(tmp_path)
    assert engine_address(settings, {}).certificates == ""


def ask(host: str) -> EngineUnreachable:
    """The error that an engine at this address gives."""
    with pytest.raises(EngineUnreachable) as caught:
        asyncio.run(Engine(Settings(docker=Docker(host=host)), {}).facts())
    return caught.value


def test_a_missing_a_dead_and_a_forbidden_socket_are_told_apart(tmp_path: Path) -> None:
    missing = ask(f"unix://{tmp_path / 'none.sock'}")
    assert "there is no Docker engine" in missing.message and "docker.host" in str(missing.hint)

    dead = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(dead))
    stopped = ask(f"unix://{dead}")
    assert "nothing listens" in stopped.message and "systemctl start docker" in str(stopped.hint)

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        refused = ask(f"tcp://127.0.0.1:{taken.getsockname()[1]}")
    assert "nothing listens" in refused.message


@pytest.mark.parametrize(
    ("status", "body", "message", "hint"),
    [
        (404, "File not found", "is no Docker engine", "DOCKER_HOST"),
        (400, "Client sent an HTTP request to an HTTPS server.", "wants TLS", "DOCKER_TLS_VERIFY=1"),
    ],
)
def test_what_answers_and_is_no_engine_is_told_apart(
    tmp_path: Path, status: int, body: str, message: str, hint: str
) -> None:
    with recorded(tmp_path / "other.sock", {}, {}, refusal=(status, body)) as host:
        error = ask(host)
    assert message in error.message and hint in str(error.hint)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else for a moment")
def test_an_engine_that_refuses_the_user_says_who_may(tmp_path: Path) -> None:
    docker.APIClient  # noqa: B018 - imported while this user may read it
    path = Path("/tmp") / f"obi-mcp-test-{os.getpid()}.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(1)
        os.seteuid(65532)
        try:
            forbidden = ask(f"unix://{path}")
        finally:
            os.seteuid(0)
            path.unlink()
    assert "refuses this user" in forbidden.message and "group docker" in str(forbidden.hint)


@contextmanager
def recorded(
    path: Path, version: Mapping[str, Any], info: Mapping[str, Any], refusal: tuple[int, str] | None = None
) -> Iterator[str]:
    """An engine's answers to /version and /info, as another engine gave them, on a socket; or what refuses both."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = refusal or (200, json.dumps(version if self.path.endswith("/version") else info))
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *values: object) -> None:
            return None

        def address_string(self) -> str:
            return "unix"

    with socketserver.ThreadingUnixStreamServer(str(path), Answer) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"unix://{path}"
        finally:
            server.shutdown()
            thread.join()


KERNEL = os.uname().release
NEW = {"Version": "29.0.1", "ApiVersion": "1.52", "KernelVersion": KERNEL}


def test_an_engine_that_is_too_old_is_named_with_what_it_takes(tmp_path: Path) -> None:
    old = {"Version": "18.09.9", "ApiVersion": "1.39", "KernelVersion": "4.15.0"}
    with recorded(tmp_path / "old.sock", old, {}) as host:
        error = ask(host)
    assert "18.09.9" in error.message and "1.39" in error.message and "19.03" in str(error.hint)


ENGINES: list[tuple[dict[str, Any], str | None, bool]] = [
    # /info, why OBI cannot run there, whether it is this host
    ({"SecurityOptions": ["name=seccomp,profile=builtin"], "KernelVersion": KERNEL}, None, True),
    (
        {"SecurityOptions": ["name=seccomp", "name=rootless", "name=cgroupns"], "KernelVersion": KERNEL},
        "rootless",
        True,
    ),
    ({"SecurityOptions": ["name=userns"], "KernelVersion": KERNEL}, "userns-remap", True),
    ({"SecurityOptions": None, "KernelVersion": "6.10.14-linuxkit"}, None, False),
    ({}, None, False),
]


@pytest.mark.parametrize(("info", "problem", "local"), ENGINES, ids=range(len(ENGINES)))
def test_what_an_engine_is_decides_whether_obi_can_run_there(
    tmp_path: Path, info: dict[str, Any], problem: str | None, local: bool
) -> None:
    with recorded(tmp_path / "e.sock", NEW, info) as host:
        facts = asyncio.run(Engine(Settings(docker=Docker(host=host)), {}).facts())
    found = unfit(facts)
    assert (facts.major, facts.local) == (29, local)
    assert found is None if problem is None else found is not None and problem in found.message
