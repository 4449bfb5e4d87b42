"""A spare: a process that waits to become a child. Most of what a child needs is done before the command is known.

Source of the idea: what is slow about starting a child is the fork of Python and its first writes to shared pages
(1–2 ms); a spare has that behind it. docs/decisions/0001-children.md has the figures.
"""

from __future__ import annotations

import marshal
import os
import resource
import socket

from obi_mcp.process import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself is a tenth of what a spare would have to copy
    from typing import Any

MAX_MESSAGE_BYTES = 200_000
_STREAMS = 3
_REHEARSED = 64


class Desk:
    """What every spare shares with the launcher: where orders come from, and where to say who took which."""

    __slots__ = ("control", "launcher", "orders", "rulesets", "seccomp", "taken")

    def __init__(self, control: socket.socket, orders: socket.socket, taken: int) -> None:
        self.launcher = os.getpid()
        self.control = control
        self.orders = orders
        self.taken = taken
        self.seccomp = kernel.seccomp_filter()
        self.rulesets: dict[str, int | None] = {}


def become_child(desk: Desk) -> None:
    """Waits for an order, confines itself, and becomes the program. Never returns."""
    try:
        os.setsid()
        kernel.die_with_parent(desk.launcher)
        kernel.no_new_privileges()
        kernel.default_signals()
        _rehearse()
        data, streams, _, _ = socket.recv_fds(desk.orders, MAX_MESSAGE_BYTES, _STREAMS)
        if data:
            _run(desk, marshal.loads(data), streams)
    finally:
        os._exit(127)


def _rehearse() -> None:
    """Walks the road once, so that its pages are this process's own before it counts."""
    order = marshal.dumps(
        {"argv": ["word"] * _REHEARSED, "env": {str(number): "value" for number in range(_REHEARSED)}}
    )
    words = marshal.loads(order)
    kernel.landlock_abi()
    resource.setrlimit(resource.RLIMIT_CORE, resource.getrlimit(resource.RLIMIT_CORE))
    os.dup2(0, 0)
    os.chdir("/")
    try:
        os.execve("/", words["argv"], words["env"])
    except OSError:
        pass  # a directory cannot be run


def _run(desk: Desk, order: dict[str, Any], streams: list[int]) -> None:
    os.write(desk.taken, b"%d %d\n" % (order["id"], os.getpid()))
    step = "confine"
    try:
        for target, stream in enumerate(streams):
            os.dup2(stream, target)
            os.close(stream)  # recv_fds loses MSG_CMSG_CLOEXEC, so they would stay open
        os.chdir(order["cwd"])
        for limit, soft, hard in order["limits"]:
            resource.setrlimit(limit, (soft, hard))
        if order["rules"] is not None:
            _put_on_rules(desk, order["rules"])
        if not order["sockets"] and desk.seccomp is not None:
            kernel.seccomp_restrict(desk.seccomp)
        step = "exec"
        os.execve(order["path"], order["argv"], order["env"])
    except (OSError, ValueError) as error:
        failure = {"failed": order["id"], "step": step, "errno": getattr(error, "errno", None) or 0}
        desk.control.send(marshal.dumps(failure))


def _put_on_rules(desk: Desk, rules: dict[str, Any]) -> None:
    key = rules.pop("key")
    # INVARIANT: a ruleset that cannot be made stops the start; only a kernel without Landlock runs without one.
    ruleset = desk.rulesets[key] if key in desk.rulesets else kernel.landlock_ruleset(**rules)
    if ruleset is not None:
        kernel.landlock_restrict(ruleset)
