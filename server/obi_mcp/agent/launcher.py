"""The server's side of the agent launcher: orders to it, answers from it. Only what was approved becomes an order."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from obi_mcp.agent.built import Built
from obi_mcp.agent.keeper import Manner
from obi_mcp.errors import ProgramFailed
from obi_mcp.obi.agreement import BinaryAnswer
from obi_mcp.policy.effects import AgentCheck, AgentSignal, AgentStart, ApprovedEffect, ProcessProof, digest
from obi_mcp.process.agent_launcher import MAX_MESSAGE_BYTES

_PACKAGE_ROOT = Path(__file__).resolve().parent.parent.parent
START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from obi_mcp.process.agent_launcher import main; "
    "main(int(sys.argv[2]), sys.argv[3], tuple(sys.argv[4:]))"
)
_ANSWER_S = 15.0


class AgentLauncher:
    """One launcher process. Orders are answered one after another.

    ``start_process`` has to be called before the server confines itself; else the first order does it.
    """

    def __init__(self, directory: Path, binaries: Sequence[str], manner: Manner) -> None:
        self._directory = directory
        self._binaries = tuple(binaries)
        self._manner = manner
        self._process: subprocess.Popen[bytes] | None = None
        self._orders: socket.socket | None = None
        self._asking = asyncio.Lock()
        self._last = 0

    def start_process(self) -> None:
        """Starts the launcher; about 2 ms, and what it imports need not be waited for. Raises: ProgramFailed."""
        if self._process is not None:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for side in (ours, theirs):  # one message has to fit; the kernel gives at most twice net.core.wmem_max
            side.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_MESSAGE_BYTES)
        with theirs:
            end = str(theirs.fileno())
            words = [sys.executable, "-I", "-S", "-B", "-c", START]
            argv = [*words, str(_PACKAGE_ROOT), end, str(self._directory), *self._binaries]
            try:
                self._process = subprocess.Popen(
                    argv,
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env={"LC_ALL": "C.UTF-8"},
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                raise ProgramFailed(f"the agent launcher cannot be started: {error}") from None
        ours.setblocking(False)
        self._orders = ours

    async def start(self, approved: ApprovedEffect[AgentStart]) -> ProcessProof:
        """Starts the agent and its keeper; gives the agent. Raises: ProgramFailed with the reason."""
        effect = approved.effect
        manner = {name: getattr(self._manner, name) for name in Manner.__slots__}
        answer = await self._ask(
            {
                "do": "start",
                "binary": effect.binary,
                "config_path": effect.config_path,
                "digest": digest(effect.config),
                "environment": dict(effect.environment),
                "manner": manner,
            }
        )
        if "refused" in answer:
            raise ProgramFailed(f"the agent was not started: {answer['refused']}", _hint(answer["errno"]))
        return (await self.look([answer["agent"]]))[0]

    async def check(self, approved: ApprovedEffect[AgentCheck]) -> BinaryAnswer:
        """What the program itself says of a configuration. Raises: ProgramFailed when it says nothing."""
        effect = approved.effect
        answer = await self._ask({"do": "check", "binary": effect.binary, "config": effect.config})
        if "refused" in answer:
            raise ProgramFailed(f"{effect.binary} config validate: {answer['refused']}")
        return BinaryAnswer(answer["exit_code"], answer["stdout"], answer["stderr"])

    async def signal(self, approved: ApprovedEffect[AgentSignal]) -> bool:
        """Signals the process that was meant; False when it has ended. Raises: ProgramFailed when it is another."""
        proof = approved.effect.seen
        answer = await self._ask(
            {
                "do": "signal",
                "pid": proof.pid,
                "started": proof.started,
                "boot": proof.boot,
                "signal": approved.effect.signal,
            }
        )
        if "refused" in answer:
            raise ProgramFailed(f"pid {proof.pid} was not signalled: {answer['refused']}")
        return "sent" in answer

    async def look(self, pids: Sequence[int]) -> tuple[ProcessProof, ...]:
        """What these processes are now."""
        answer = await self._ask({"do": "look", "pids": list(pids)})
        return tuple(ProcessProof(**entry) for entry in answer["processes"])

    async def find(self) -> tuple[ProcessProof, ...]:
        """Every process on this host that runs one of our programs."""
        answer = await self._ask({"do": "find"})
        return tuple(ProcessProof(**entry) for entry in answer["processes"])

    async def privileges(self, binary: str) -> dict[str, Any]:
        """What an agent would be started with: uid, capability masks, the file's own, the limit of locked memory."""
        return await self._ask({"do": "privileges", "binary": binary})

    async def built(self, binary: str) -> Built | None:
        """What the program's file says of itself; None where it says nothing that can be read."""
        answer = await self._ask({"do": "built", "binary": binary})
        return Built(answer["program"], answer["version"]) if "program" in answer else None

    def close(self) -> None:
        """Ends the launcher, not what it started."""
        if self._orders is not None:
            self._orders.close()
        if self._process is not None:
            try:
                self._process.wait(2)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._orders = self._process = None

    async def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        async with self._asking:
            self.start_process()
            orders = self._orders
            if orders is None:  # INVARIANT: start_process made it
                raise ProgramFailed("the agent launcher did not start")
            self._last += 1
            data = json.dumps({**order, "id": self._last}, ensure_ascii=False).encode()
            if len(data) > MAX_MESSAGE_BYTES:
                raise ProgramFailed(f"the order has {len(data)} bytes; at most {MAX_MESSAGE_BYTES} are taken")
            loop = asyncio.get_running_loop()
            try:
                await loop.sock_sendall(orders, data)
                async with asyncio.timeout(_ANSWER_S):
                    while True:
                        answer = await loop.sock_recv(orders, MAX_MESSAGE_BYTES)
                        if not answer:
                            raise ProgramFailed("the agent launcher has ended", "restart the server")
                        said: dict[str, Any] = json.loads(answer)
                        if said["id"] == self._last:  # else an answer that nobody waited for any more
                            return said
            except (OSError, TimeoutError) as error:
                raise ProgramFailed(f"the agent launcher does not answer: {error}", "restart the server") from None


def _hint(number: int) -> str | None:
    import errno

    if number == errno.ENOSPC:
        return "make room on the disk that holds the state directory, or set XDG_STATE_HOME elsewhere"
    if number in (errno.EPERM, errno.EACCES):
        return "obi-mcp doctor says what is missing; a file may have lost its mode"
    return None
