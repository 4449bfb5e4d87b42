"""The server itself is held to its files: tried from within the process that serves, after its own start-up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from obi_mcp.config import Programs, Settings
from obi_mcp.policy.scope import Scope
from obi_mcp.process.confinement import plan, state_directory
from obi_mcp.process.kernel import landlock_abi
from obi_mcp.process.programs import find_programs

needs_landlock = pytest.mark.skipif(landlock_abi() == 0, reason="this kernel offers no Landlock")
NOTHING = find_programs(Settings(), {"PATH": "/nowhere"}, python="/nowhere/python")

KERNEL_CAPABILITIES = 1 << 16 | 1 << 17 | 1 << 19 | 1 << 21 | 1 << 39

# The server starts as it always does; in place of serving it runs the attempts and prints what came of each.
PROBE = """
import asyncio, json, os, sys
from obi_mcp.cli import serve

def attempt(code):
    names = {"os": os}
    try:
        exec("import socket, ctypes, subprocess, tempfile; " + code, names)
    except OSError as error:
        return type(error).__name__
    return "done" if "result" not in names else names["result"]

def probe(services, *rest):
    print(json.dumps([attempt(code) for code in json.load(open(0))]))
    asyncio.run(services.enforcer.close())

serve._serve = probe
sys.exit(serve.main(sys.argv[1:]))
"""


def tried(home: Path, *codes: str, flags: tuple[str, ...] = (), **variables: str) -> list[Any]:
    """What each piece of Python gives in the serving process: the name of its OSError, ``done``, or its ``result``."""
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": "", **variables}
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *flags],
        input=json.dumps(codes),
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: list[Any] = json.loads(done.stdout)
    return answers


@pytest.fixture
def stranger() -> Iterator[int]:
    """A process of the same user that the server did not start."""
    process = subprocess.Popen(["/bin/sleep", "60"], env={"SECRET": "canary"})
    yield process.pid
    process.kill()
    process.wait()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    place = tmp_path / "home"
    (place / ".kube").mkdir(parents=True)
    (place / ".kube/config").write_text(json.dumps(kubeconfig()))
    (place / ".ssh").mkdir()
    (place / ".ssh/id").write_text("canary")
    return place


def kubeconfig(**user: object) -> dict[str, object]:
    return {
        "current-context": "here",
        "contexts": [
            {"name": "here", "context": {"cluster": "here", "user": "here"}},
            {"name": "there", "context": {"cluster": "here", "user": "there"}},
        ],
        "clusters": [{"name": "here", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [
            {"name": "here", "user": user},
            {"name": "there", "user": {"exec": {"command": "a-plugin", "apiVersion": "v1"}}},
        ],
    }


@needs_landlock
def test_the_server_can_open_nothing_but_its_own(home: Path, tmp_path: Path, stranger: int) -> None:
    other = tmp_path / "other-user"
    other.mkdir()
    (other / "notes").write_text("canary")
    audit = tmp_path / "audit" / "log"
    audit.parent.mkdir()
    ruled_out = "PermissionError"
    held_capabilities = "int(open('/proc/self/status').read().split('CapEff:')[1].split()[0], 16)"
    attempts = [
        ("open('/etc/shadow')", ruled_out),
        (f"open({str(other / 'notes')!r})", ruled_out),
        (f"os.listdir({str(other)!r})", ruled_out),
        (f"open({str(home / '.ssh/id')!r})", ruled_out),
        (f"open({str(home / 'new')!r}, 'w')", ruled_out),
        (f"open({str(home / '.kube/config')!r}).read()", "done"),
        (f"open({str(home / '.kube/config')!r}, 'a')", ruled_out),
        (f"os.rename({str(home / '.kube/config')!r}, {str(home / '.kube/old')!r})", ruled_out),
        (f"open({str(audit)!r}, 'a')", ruled_out),  # it is open already, and nobody opens it once more
        ("os.mkdir('/tmp/obi-mcp-not-allowed')", ruled_out),
        ("os.symlink('/etc/shadow', '/dev/shm/obi-mcp-not-allowed')", ruled_out),
        (f"open('/proc/{stranger}/environ', 'rb').read()", ruled_out),
        (f"os.readlink('/proc/{stranger}/cwd')", ruled_out),
        (f"open('/proc/{stranger}/root/etc/shadow')", ruled_out),
        (f"os.kill({stranger}, {int(signal.SIGCONT)})", ruled_out if landlock_abi() >= 6 else "done"),
        (f"result = {KERNEL_CAPABILITIES} & {held_capabilities}", 0),
        ("subprocess.run(['/bin/sh', '-c', ':'])", ruled_out),
        ("subprocess.run(['/usr/bin/env'])", ruled_out),
        ("open('/dev/null', 'w').write('x')", "done"),
        ("result = tempfile.TemporaryFile().write(b'four')", 4),
        ("import xml.dom.minidom, sqlite3", "done"),
        ("result = open('/proc/self/status').read().count('NoNewPrivs:\\t1')", 1),
        ("import resource; result = list(resource.getrlimit(resource.RLIMIT_CORE))", [0, 0]),
        ("socket.create_server(('127.0.0.1', 0)).close()", "done"),
    ]
    got = tried(home, *(code for code, _ in attempts), OBI_MCP_AUDIT__FILE=str(audit))
    assert list(zip([code for code, _ in attempts], got, strict=True)) == attempts


@needs_landlock
def test_what_the_server_starts_is_held_too(home: Path) -> None:
    inner = "import sys; open(sys.argv[1]).read(1)"
    run = "result = subprocess.run([os.path.realpath(sys.executable), '-I', '-S', '-c', {!r}, {!r}]).returncode"
    got = tried(
        home,
        "import sys; " + run.format(inner, "/etc/shadow"),
        "import sys; " + run.format(inner, f"{home}/.kube/config"),
    )
    assert got[0] == 1 and got[1] == 0


@needs_landlock
def test_where_a_credential_plugin_may_read_anything_writing_is_held_all_the_same(home: Path) -> None:
    (home / ".kube/config").write_text(json.dumps(kubeconfig(exec={"command": "a-plugin", "apiVersion": "v1"})))
    got = tried(home, f"open({str(home / '.ssh/id')!r})", f"open({str(home / 'new')!r}, 'w')")
    assert got == ["done", "PermissionError"]


def test_an_operator_can_switch_it_off(home: Path) -> None:
    got = tried(home, f"open({str(home / 'new')!r}, 'w')", flags=("--confine", "none"))
    assert got == ["done"]


def test_nothing_is_left_of_a_server_that_was_only_started(home: Path) -> None:
    runtime = tempfile.mkdtemp(dir="/tmp")  # short enough for a socket's path
    assert tried(home, "result = os.environ['TMPDIR']", XDG_RUNTIME_DIR=runtime)[0].startswith(runtime)
    os.rmdir(runtime)


PLANS: list[tuple[str, Settings, dict[str, object], str, str]] = [
    ("a plain context", Settings(), {}, "reading and writing", ""),
    (
        "a plugin",
        Settings(),
        {"exec": {"command": "aws"}},
        "writing",
        "the context here gets its credentials from aws, which may read anything",
    ),
    (
        "another context with a plugin that a caller may name",
        Settings(scope=Scope(contexts=("here", "there"))),
        {},
        "writing",
        "the context there gets its credentials from a-plugin, which may read anything",
    ),
    ("switched off", Settings(confine="none"), {}, "nothing", "the setting confine is none"),
]


@needs_landlock
@pytest.mark.parametrize(("settings", "user", "held", "why"), [row[1:] for row in PLANS], ids=[row[0] for row in PLANS])
def test_what_is_held_follows_from_the_settings(
    home: Path, settings: Settings, user: dict[str, object], held: str, why: str
) -> None:
    (home / ".kube/config").write_text(json.dumps(kubeconfig(**user)))
    planned = plan(settings, NOTHING, environ={"HOME": str(home)})
    assert (planned.held, planned.why) == (held, why)
    assert held == "nothing" or "/dev/null" in planned.rules.write


def test_without_landlock_it_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("obi_mcp.process.kernel.landlock_abi", lambda: 0)
    planned = plan(Settings(), NOTHING, environ={"HOME": str(home)})
    assert planned.describe() == "the server is not held to its files: this kernel offers no Landlock"


@needs_landlock
def test_what_a_context_names_is_readable_and_nothing_beside_it(home: Path, tmp_path: Path) -> None:
    certificates = tmp_path / "certificates"
    certificates.mkdir()
    (certificates / "client").touch()
    (home / "token").touch()
    user = {"client-certificate": str(certificates / "client"), "tokenFile": str(home / "token")}
    (home / ".kube/config").write_text(json.dumps(kubeconfig(**user)))
    settings = Settings(programs=Programs(chart_store=str(tmp_path)))
    read = plan(settings, NOTHING, environ={"HOME": str(home)}).rules.read
    assert {str(certificates), str(home / "token"), str(home / ".kube"), str(tmp_path)} <= set(read)
    assert not {str(home), "/", "/etc", "/tmp", "/root", "/home"} & set(read)


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({"HOME": "/h"}, "/h/.local/state/obi-mcp"),
        ({"HOME": "/h", "XDG_STATE_HOME": "/s"}, "/s/obi-mcp"),
        ({"HOME": "/h", "XDG_STATE_HOME": "relative"}, "/h/.local/state/obi-mcp"),
    ],
)
def test_where_state_is_kept(environ: dict[str, str], place: str) -> None:
    assert str(state_directory(environ)) == place


@needs_landlock
def test_packages_that_are_links_are_readable_where_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, site = tmp_path / "store", tmp_path / "site"
    for name in ("whole", "by_file"):
        (store / name).mkdir(parents=True)
        (store / name / "__init__.py").touch()
    (site / "by_file").mkdir(parents=True)
    (site / "whole").symlink_to(store / "whole")
    (site / "by_file/__init__.py").symlink_to(store / "by_file/__init__.py")
    monkeypatch.syspath_prepend(str(site))
    read = plan(Settings(), NOTHING, environ={"HOME": "/nowhere"}).rules.read
    assert {str(site), str(store / "whole"), str(store / "by_file")} <= set(read)
    assert str(store) not in read


@needs_landlock
def test_toolsets_beyond_commands_may_write_their_state(home: Path, tmp_path: Path) -> None:
    environ = {"HOME": str(home), "XDG_STATE_HOME": str(tmp_path)}
    state_directory(environ).mkdir()
    for toolsets, written in (("command", "kubernetes"), False), (("local",), True), (("all",), True):
        rules = plan(Settings(toolsets=toolsets), NOTHING, environ=environ).rules
        assert (str(tmp_path / "obi-mcp") in rules.write) is written
        assert ("/sys" in rules.read) is written
