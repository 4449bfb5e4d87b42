"""Processes that outlive the command that started them: recorded, and stopped only if they are still the same."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.sandbox import cgroup
from tests.sandbox.instance import Instance, SandboxError

NSENTER = "/usr/bin/nsenter"
NETNS_DIRECTORY = Path("/run/netns")
STOP_DEADLINE_S = 60.0
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
ENOUGH_INOTIFY = 1024
LOG_LINES = 8
_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Daemon:
    """A started process. ``started`` is field 22 of /proc/PID/stat: with it a process id cannot be mistaken."""

    name: str
    pid: int
    program: str
    started: int

    def alive(self) -> bool:
        """Whether this very process is there and runs the program it was started for."""
        stat = _stat(self.pid)
        if stat is None or stat[0] == "Z" or stat[1] != self.started:
            return False
        # Until it has entered its namespaces it is still nsenter.
        return _program(self.pid).removesuffix(" (deleted)") in {self.program, os.path.realpath(NSENTER)}


def start(
    instance: Instance,
    name: str,
    argv: Sequence[str | Path],
    *,
    netns: str | None = None,
    mounts_of: Daemon | None = None,
    program: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Daemon:
    """Start a process in a session of its own, its output in ``log/NAME.log``, and record it.

    ``program`` is what it becomes, where argv[0] is only on the way. ``netns`` and ``mounts_of`` are entered first.
    """
    words = [*_entering(netns, mounts_of), *(str(word) for word in argv)]
    log = str(instance.log(name))
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    pid = os.posix_spawn(words[0], words, dict(environment or os.environ), file_actions=actions, setsid=True)
    stat = _stat(pid)
    daemon = Daemon(name, pid, os.path.realpath(program or argv[0]), stat[1] if stat else 0)
    record = instance.state / "daemons" / f"{name}.json"
    # Whole or not at all: a start may be cut off here, too, and whoever cleans up after it reads the records.
    begun = record.with_suffix(".begun")
    begun.write_text(json.dumps(asdict(daemon)), encoding="utf-8")
    begun.replace(record)
    if program is not None:
        on_the_way = {os.path.realpath(NSENTER), os.path.realpath(argv[0])}
        while _program(pid) in on_the_way:
            time.sleep(_POLL_S)
    return daemon


def recorded(instance: Instance) -> tuple[Daemon, ...]:
    """All that was started, dead or alive."""
    records = sorted((instance.state / "daemons").glob("*.json"))
    return tuple(Daemon(**json.loads(record.read_text(encoding="utf-8"))) for record in records)


def require_alive(instance: Instance, daemons: Iterable[Daemon]) -> None:
    """Raises: SandboxError with the end of the log of the first that died."""
    for daemon in daemons:
        if not daemon.alive():
            text = instance.log(daemon.name).read_text(encoding="utf-8", errors="replace")
            end = "\n".join(text.splitlines()[-LOG_LINES:])
            raise SandboxError(f"{daemon.name} has ended{_known_cause(text)}; its log ends:\n{end}")


def stop(daemons: Iterable[Daemon]) -> None:
    """Kill what is still there and wait until it is gone. Nothing here has data worth a graceful end.

    Raises: SandboxError when a process does not go within STOP_DEADLINE_S.
    """
    chosen = tuple(daemon for daemon in daemons if daemon.alive())
    for daemon in chosen:
        _kill(daemon.pid)
    deadline = time.monotonic() + STOP_DEADLINE_S
    for daemon in chosen:
        while daemon.alive():
            if time.monotonic() > deadline:
                raise SandboxError(f"process {daemon.pid} ({daemon.name}) does not end")
            time.sleep(_POLL_S)
        _reap(daemon.pid)


def make_room_for_watchers() -> None:
    """Let more than six instances stand side by side: the usual limit, 128, is for all of root's processes together.

    It is left so, since a higher one harms nobody. Where it may not be written, what fails for it says so.
    """
    with suppress(OSError):
        if int(INOTIFY.read_text(encoding="utf-8")) < ENOUGH_INOTIFY:
            INOTIFY.write_text(f"{ENOUGH_INOTIFY}\n", encoding="utf-8")


def kill_inhabitants(netns: Iterable[str], cgroups: Iterable[Path]) -> None:
    """Kill what runs in network namespaces and cgroups that this instance made: shims, containers, fetches.

    Both were made for the instance and have its name, so whatever is in them is its own, however it got there.
    """
    deadline = time.monotonic() + STOP_DEADLINE_S
    while pids := _in_netns(netns) | _in_cgroups(cgroups):
        if time.monotonic() > deadline:
            raise SandboxError(f"processes {sorted(pids)} do not end")
        for pid in pids:
            _kill(pid)
            _reap(pid)
        time.sleep(_POLL_S)


def _known_cause(log: str) -> str:
    """What a log says in words that do not name it."""
    if "inotify" in log and "too many open files" in log:
        most = INOTIFY.read_text(encoding="utf-8").strip()
        return (
            f", for want of inotify instances: {most} is the most, a sandbox takes 19; stop another or raise {INOTIFY}"
        )
    return ""


def _entering(netns: str | None, mounts_of: Daemon | None) -> list[str]:
    if netns is None and mounts_of is None:
        return []
    entered = [NSENTER]
    if netns is not None:
        entered.append(f"--net={NETNS_DIRECTORY / netns}")
    if mounts_of is not None:
        entered.append(f"--mount=/proc/{mounts_of.pid}/ns/mnt")
    return [*entered, "--"]


def _in_netns(names: Iterable[str]) -> set[int]:
    places = set()
    for name in names:
        path = NETNS_DIRECTORY / name
        if path.exists():
            status = path.stat()
            places.add((status.st_dev, status.st_ino))
    found = set()
    for entry in Path("/proc").iterdir() if places else ():
        if not entry.name.isdigit():
            continue
        try:
            status = (entry / "ns/net").stat()
        except OSError:  # it has ended meanwhile
            continue
        if (status.st_dev, status.st_ino) in places:
            found.add(int(entry.name))
    return found


def _in_cgroups(roots: Iterable[Path]) -> set[int]:
    found: set[int] = set()
    for root in roots:
        for folder in (root, *cgroup.below(root)):
            try:
                found.update(int(line) for line in (folder / "cgroup.procs").read_text().split())
            except OSError:  # the cgroup has gone meanwhile
                continue
    return found


def _stat(pid: int) -> tuple[str, int] | None:
    """State letter and start time, None where there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return fields[0], int(fields[19])


def _program(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _reap(pid: int) -> None:
    """Collect a child of ours; one that another process started is collected by init."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass
