"""The agent launcher: a small process that is started before the server confines itself, and starts the keeper of an
agent for it.

Under the server's own confinement file capabilities and Landlock would be inherited by the agent, which needs neither.
So this one process stays as the operator started it, and therefore does very little: it starts only the programs that
it was given when it began, only with the configuration file of the directory that it was given, whose digest it is
told; it looks at processes; it signals only one that was recognised by pid, start time and program. It ends with the
server; a keeper does not.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import sys
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_MESSAGE_BYTES = 400_000
_VARIABLE = re.compile(r"(?:OTEL|BEYLA|OBI)_[A-Z0-9_]+")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CAPABILITIES = "security.capability"
_MOST_PROCESSES = 100
CHECK_S = 5.0
_MOST_SAID = 16_384


class Refused(Exception):
    """What was asked is not what this process does."""


class AgentLauncher:
    """Answers the server's orders, one after another."""

    def __init__(self, orders: socket.socket, binaries: tuple[str, ...], directory: Path) -> None:
        self._orders = orders
        self._binaries = binaries
        self._directory = directory

    def run(self) -> None:
        """Until the server closes its end."""
        while True:
            data = self._orders.recv(MAX_MESSAGE_BYTES)
            if not data:
                return
            answer: dict[str, Any]
            order: dict[str, Any] = {}
            try:
                order = json.loads(data)
                answer = self._answer(order)
            except (Refused, OSError, ValueError, KeyError, TypeError) as error:
                answer = {"refused": str(error), "errno": getattr(error, "errno", 0) or 0}
            answer["id"] = order.get("id", 0)
            self._orders.send(json.dumps(answer).encode())

    def _answer(self, order: dict[str, Any]) -> dict[str, Any]:
        match order["do"]:
            case "privileges":
                return self._privileges(order["binary"])
            case "look":
                return {"processes": [_shown(int(pid)) for pid in order["pids"][:_MOST_PROCESSES]]}
            case "find":
                return {"processes": self._find()}
            case "built":
                return self._built(order["binary"])
            case "check":
                return self._check(order)
            case "start":
                return self._start(order)
            case "signal":
                return self._signal(order)
        raise Refused("it is no order")

    def _privileges(self, binary: str) -> dict[str, Any]:
        """What an agent that is started from here has: the capabilities of this process, and those of its file."""
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        found = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        try:
            on_file = os.getxattr(binary, _CAPABILITIES).hex() if binary in self._binaries else ""
        except OSError:
            on_file = ""
        soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        return {
            "uid": os.geteuid(),
            "effective": int(found.get("CapEff", "0"), 16),
            "bounding": int(found.get("CapBnd", "0"), 16),
            "no_new_privileges": found.get("NoNewPrivs", "0").strip() == "1",
            "on_file": on_file,
            "memlock": [soft, hard],
        }

    def _built(self, binary: str) -> dict[str, Any]:
        """Which program the file says that it is; nothing where it does not say."""
        from obi_mcp.agent.built import built

        said = built(binary) if binary in self._binaries else None
        return {"program": said.program, "version": said.version} if said is not None else {}

    def _find(self) -> list[dict[str, Any]]:
        """The processes whose program is one of ours: the same file, not only the same name."""
        files = {_file(binary) for binary in self._binaries} - {None}
        found: list[dict[str, Any]] = []
        for name in os.listdir("/proc"):
            if name.isdigit() and (identity := _file(f"/proc/{name}/exe")) and identity in files:
                found.append(_shown(int(name)))
        return found[:_MOST_PROCESSES]

    def _check(self, order: dict[str, Any]) -> dict[str, Any]:
        """``config validate`` of a program that has it. Without the rights to instrument anything, should it not."""
        import subprocess

        from obi_mcp.process import kernel

        if order["binary"] not in self._binaries:
            raise Refused(f"{order['binary']!r} is not the program that was found at the start")

        def confine() -> None:
            kernel.no_new_privileges()
            kernel.drop_capabilities()

        document = os.memfd_create("config.yaml")
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else nobody could wait for it
        try:
            os.write(document, order["config"].encode())
            words = [order["binary"], "config", "validate", f"/proc/self/fd/{document}"]
            done = subprocess.run(
                words,
                pass_fds=(document,),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=CHECK_S,
                check=False,
                env={"PATH": _PATH, "HOME": "/nonexistent"},
                cwd="/",
                preexec_fn=confine,
            )
        except subprocess.TimeoutExpired:
            raise Refused(f"it gave no answer within {CHECK_S:g} s and was ended") from None
        finally:
            os.close(document)
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        texts = [text[:_MOST_SAID].decode("utf-8", "replace") for text in (done.stdout, done.stderr)]
        return {"exit_code": done.returncode, "stdout": texts[0], "stderr": texts[1]}

    def _start(self, order: dict[str, Any]) -> dict[str, Any]:
        if order["binary"] not in self._binaries:
            raise Refused(f"{order['binary']!r} is not the program that was found at the start")
        path = Path(order["config_path"])
        if path.parent != self._directory:
            raise Refused(f"{path} is not in {self._directory}")
        environment = {"PATH": _PATH, "HOME": str(self._directory)}
        for name, value in order["environment"].items():
            if not _VARIABLE.fullmatch(name):
                raise Refused(f"{name} is no variable of an agent's")
            environment[name] = value
        return self._fork(order, path, environment)

    def _fork(self, order: dict[str, Any], path: Path, environment: dict[str, str]) -> dict[str, Any]:
        from obi_mcp.agent.keeper import Manner, Wanted

        wanted = Wanted(self._directory, order["binary"], str(path), order["digest"], environment)
        manner = Manner(**order["manner"])
        reading, writing = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            self._orders.close()
            _keep(wanted, manner, writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read()
        return json.loads(said) if said else {"refused": "the keeper ended before it had begun", "errno": 0}

    def _signal(self, order: dict[str, Any]) -> dict[str, Any]:
        """By a descriptor of the process, taken before it is looked at: what is signalled is what was seen."""
        number = {"TERM": signal.SIGTERM, "KILL": signal.SIGKILL}[order["signal"]]
        try:
            descriptor = os.pidfd_open(int(order["pid"]))
        except ProcessLookupError:
            return {"gone": True}
        try:
            seen = _shown(int(order["pid"]))
            if seen["started"] != order["started"] or seen["boot"] != order["boot"]:
                return {"gone": True}
            if _file(f"/proc/{order['pid']}/exe") not in {_file(binary) for binary in self._binaries}:
                raise Refused(f"pid {order['pid']} does not run OBI")
            signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)
        return {"sent": True}


def _keep(wanted: Any, manner: Any, telling: int) -> None:
    """The life of the keeper. Never returns."""
    from obi_mcp.agent.keeper import Keeper, KeeperRefused

    code = 1
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):  # whoever waits for the end of the server's own streams must not wait for the agent
            os.dup2(nothing, stream)
        os.close(nothing)
        for number in (signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        wakeup, waking = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        answer: dict[str, object]
        keeper: Keeper | None = None
        try:
            keeper = Keeper(wanted, manner)
            keeper.start()
            answer = {"keeper": os.getpid(), "agent": keeper.agent}
        except KeeperRefused as error:
            answer, keeper = {"refused": error.reason, "errno": error.number}, None
        except OSError as error:
            answer, keeper = {"refused": str(error), "errno": error.errno or 0}, None
        os.write(telling, json.dumps(answer).encode())
        os.close(telling)
        if keeper is not None:
            keeper.run(wakeup)
            code = 0
    finally:
        os._exit(code)


def _shown(pid: int) -> dict[str, Any]:
    from obi_mcp.agent.proof import proof_of

    proof = proof_of(pid)
    return {"pid": proof.pid, "started": proof.started, "boot": proof.boot, "executable": proof.executable}


def _file(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def main(orders: int, directory: str, binaries: tuple[str, ...]) -> None:
    """The launcher's life: the descriptor of its end of the socket, the directory, the programs."""
    os.umask(0o077)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # a keeper that never hears of its child's end would be deaf
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # a keeper that ends needs no farewell
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=orders) as ours:
        ours.set_inheritable(False)
        AgentLauncher(ours, binaries, Path(directory)).run()
    sys.exit(0)
