"""Whether OBI can run on this host, before it is started: what was looked at, what follows, and the way out.

The capabilities by feature, and which kernels lack what, are in ``obi/capabilities.py``, with where each is from.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from obi_mcp.agent.asks import Asks, Port
from obi_mcp.agent.built import Built
from obi_mcp.obi.capabilities import NO_MEMLOCK_KERNEL, OLDEST_KERNEL, Feature, kernel_of, needed

Severity = Literal["ok", "note", "problem"]

_NUMBERS = {
    "DAC_READ_SEARCH": 2,
    "NET_ADMIN": 12,
    "NET_RAW": 13,
    "SYS_PTRACE": 19,
    "SYS_ADMIN": 21,
    "SYS_RESOURCE": 24,
    "PERFMON": 38,
    "BPF": 39,
    "CHECKPOINT_RESTORE": 40,
}
"""Bits of capability masks. Source of fact: linux/capability.h."""

_EFFECTIVE_BIT = 0x01
_PROBING = frozenset(Feature) - {Feature.NETWORK, Feature.NETWORK_TC}
_LISTEN = "0A"
_OBI = Built("obi")


@dataclass(frozen=True, slots=True)
class HostFinding:
    """One thing that was looked at. ``problem``: OBI will not start or not do what was asked; ``note``: it may."""

    subject: str
    severity: Severity
    evidence: str
    consequence: str = ""
    way_out: str = ""

    def as_json(self) -> dict[str, str]:
        """Only the parts that are not empty."""
        parts = {
            "subject": self.subject,
            "severity": self.severity,
            "evidence": self.evidence,
            "consequence": self.consequence,
            "way_out": self.way_out,
        }
        return {name: value for name, value in parts.items() if value}

    def __str__(self) -> str:
        so = f": {self.consequence}" if self.consequence else ""
        return f"{self.evidence}{so}" + (f" → {self.way_out}" if self.way_out else "")


@dataclass(frozen=True, slots=True)
class Privileges:
    """What an agent is started with: the masks of the launcher, and those on the program's file. ``memlock``: bytes
    that it may lock, -1 for any number."""

    uid: int
    effective: int
    bounding: int
    on_file: int = 0
    no_new_privileges: bool = False
    memlock: int = -1

    @classmethod
    def from_answer(cls, answer: Mapping[str, Any]) -> Privileges:
        """From what the launcher answers."""
        return cls(
            answer["uid"],
            answer["effective"],
            answer["bounding"],
            file_capabilities(bytes.fromhex(answer["on_file"])),
            answer["no_new_privileges"],
            answer["memlock"][0],
        )

    @property
    def of_agent(self) -> int:
        """What the agent will have. Root gets its bounding set at exec, another what the file gives."""
        if self.uid == 0:
            return self.effective & self.bounding
        return 0 if self.no_new_privileges else self.on_file & self.bounding


def file_capabilities(attribute: bytes) -> int:
    """The mask in a file's ``security.capability``; 0 where they are not effective. Source of fact: capability.h."""
    if len(attribute) < 20 or not attribute[0] & _EFFECTIVE_BIT:
        return 0
    low, high = int.from_bytes(attribute[4:8], "little"), int.from_bytes(attribute[12:16], "little")
    return low | high << 32


@dataclass(frozen=True, slots=True)
class Place:
    """Where to look, so that tests can look elsewhere."""

    root: Path = Path("/")
    release: str = ""

    def read(self, path: str) -> str:
        """A small file's text; empty where it is not there or may not be read."""
        try:
            return (self.root / path.lstrip("/")).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""

    def exists(self, path: str) -> bool:
        return (self.root / path.lstrip("/")).exists()

    @property
    def kernel(self) -> tuple[int, int] | None:
        number = kernel_of(self.release or platform.release())
        return number[:2] if number else None


def kernel_findings(asks: Asks, place: Place) -> Iterator[HostFinding]:
    """The kernel, for the features that are asked for (all of the application's, where none is known)."""
    probing = bool(asks.features & _PROBING) or not asks.features
    yield _version(place)
    yield _btf(place)
    if probing:
        yield _probes(place, alone=not asks.features - _PROBING)
        yield _perf(place)
        yield from _lockdown(asks, place)


def _version(place: Place) -> HostFinding:
    release = place.release or platform.release()
    if place.kernel is None or place.kernel >= OLDEST_KERNEL:
        return HostFinding("kernel", "ok", f"Linux {release}")
    if release.startswith("4.18") and ".el8" in release:
        return HostFinding("kernel", "note", f"Linux {release}", "Red Hat's 4.18 has what OBI needs by back-ports")
    oldest = ".".join(map(str, OLDEST_KERNEL))
    return HostFinding(
        "kernel", "problem", f"Linux {release}", f"OBI needs {oldest}", f"use a kernel of {oldest} or later"
    )


def _btf(place: Place) -> HostFinding:
    path = "/sys/kernel/btf/vmlinux"
    if place.exists(path):
        return HostFinding("BTF", "ok", f"{path} is there")
    return HostFinding(
        "BTF",
        "problem",
        f"{path} is not there",
        "no eBPF program of OBI's can be loaded (no BTF found for kernel version)",
        "use a kernel built with CONFIG_DEBUG_INFO_BTF; in a container, mount /sys",
    )


def _probes(place: Place, *, alone: bool) -> HostFinding:
    """``alone``: nothing is asked for that works without."""
    if place.exists("/sys/bus/event_source/devices/kprobe") or place.exists("/sys/kernel/tracing/kprobe_events"):
        return HostFinding("kprobes", "ok", "the kernel offers kprobes")
    return HostFinding(
        "kprobes",
        "problem" if alone else "note",
        "neither /sys/bus/event_source/devices/kprobe nor /sys/kernel/tracing/kprobe_events is there",
        "OBI cannot attach to processes: it runs, /metrics answers, and no request is ever seen",
        "mount tracefs (mount -t tracefs nodev /sys/kernel/tracing), or use a kernel built with CONFIG_KPROBE_EVENTS; "
        "network flows work without",
    )


def _perf(place: Place) -> HostFinding:
    text = place.read("/proc/sys/kernel/perf_event_paranoid")
    if not text.lstrip("-").isdigit() or int(text) < 3:
        return HostFinding("perf_event_paranoid", "ok", text or "not there")
    return HostFinding(
        "perf_event_paranoid",
        "note",
        text,
        "PERFMON alone does not open kprobes: SYS_ADMIN is needed",
        "give SYS_ADMIN, or sysctl kernel.perf_event_paranoid=2",
    )


def _lockdown(asks: Asks, place: Place) -> Iterator[HostFinding]:
    text = place.read("/sys/kernel/security/lockdown")
    mode = match[1] if (match := re.search(r"\[(\w+)\]", text)) else ""
    writes = bool(asks.features & {Feature.CONTEXT_PROPAGATION, Feature.GO_CONTEXT_PROPAGATION, Feature.LOG_ENRICHER})
    if mode in ("", "none"):
        yield HostFinding("lockdown", "ok", mode or "not reported")
        if not mode and writes:
            yield HostFinding(
                "securityfs",
                "note",
                "/sys/kernel/security/lockdown is not there",
                "Go programs get no context propagation at library level",
                "mount securityfs at /sys/kernel/security",
            )
        return
    yield HostFinding(
        "lockdown",
        "problem" if mode == "confidentiality" else "note",
        f"the kernel is locked down: {mode}",
        "eBPF may not read kernel memory"
        if mode == "confidentiality"
        else "no context propagation and no log enricher in Go programs",
        "start the kernel with lockdown=none, or do without what needs it",
    )


def privilege_findings(
    asks: Asks,
    privileges: Privileges,
    place: Place,
    binary: str,
    built: Built = _OBI,
) -> Iterator[HostFinding]:
    """Whether an agent that is started now has the rights that its features need, and how to give them. ``built``:
    what is known of the program."""
    paranoid = place.read("/proc/sys/kernel/perf_event_paranoid")
    wants = needed(
        asks.features or {Feature.APPLICATION},
        kernel=place.kernel,
        perf_event_paranoid=int(paranoid) if paranoid.lstrip("-").isdigit() else None,
        program=built.program,
        version=built.version,
    ).capabilities
    has = privileges.of_agent
    if has >> _NUMBERS["SYS_ADMIN"] & 1:  # it includes what BPF and PERFMON were taken from
        has |= 1 << _NUMBERS["BPF"] | 1 << _NUMBERS["PERFMON"]
    missing = tuple(name for name in wants if not has >> _NUMBERS[name] & 1)
    names = ", ".join(sorted(feature.value for feature in asks.features)) or "any feature"
    if not missing:
        yield HostFinding("capabilities", "ok", f"user {privileges.uid} gives the agent {', '.join(wants)}")
        return
    listed = ", ".join(f"CAP_{name}" for name in missing)
    yield HostFinding(
        "capabilities",
        "problem",
        f"an agent started by user {privileges.uid} lacks {listed}",
        f"OBI needs them for {names}",
        _ways_to_give(wants, privileges, binary),
    )


def memlock_finding(privileges: Privileges, place: Place) -> HostFinding:
    """Whether BPF maps can be made: they count as locked memory on older kernels, and OBI raises the limit where it
    may."""
    limit = privileges.memlock
    if place.kernel is None or place.kernel >= NO_MEMLOCK_KERNEL:
        return HostFinding("memlock", "ok", "this kernel does not count BPF maps as locked memory")
    if limit < 0 or privileges.of_agent >> _NUMBERS["SYS_RESOURCE"] & 1:
        return HostFinding("memlock", "ok", "any amount may be locked" if limit < 0 else "OBI may raise the limit")
    return HostFinding(
        "memlock",
        "problem",
        f"at most {limit // 1024:,} KiB may be locked",
        "no BPF map can be made (MEMLOCK may be too low)",
        "start the server with ulimit -l unlimited (LimitMEMLOCK=infinity in a unit of systemd), or give SYS_RESOURCE",
    )


def _ways_to_give(wants: tuple[str, ...], privileges: Privileges, binary: str) -> str:
    flags = " ".join(f"--cap-add={name}" for name in wants)
    docker = (
        f"docker run --pid=host --network=host {flags} -v /etc/obi:/etc/obi:ro otel/ebpf-instrument "
        "-config /etc/obi/config.yaml"
    )
    lost = [name for name in wants if not privileges.bounding >> _NUMBERS[name] & 1]
    if lost or privileges.uid == 0:
        return (
            f"the server itself may not have them (bounding set): start it with {flags} where it runs in a container, "
            f"or {docker}"
        )
    if privileges.no_new_privileges:
        return f"the server was started under no_new_privs, where setcap is void: start it without, or {docker}"
    caps = ",".join(f"cap_{name.lower()}" for name in wants)
    return f"sudo setcap {caps}+ep {binary}; or start the server with sudo; or {docker}"


def port_findings(asks: Asks, place: Place, *, own: frozenset[int] = frozenset()) -> Iterator[HostFinding]:
    """Whether the ports that OBI will listen on are free. ``own``: those that the running agent holds itself."""
    taken = listening(place)
    for port in asks.ports:
        if port.number in own or port.number not in taken:
            yield HostFinding(f"port {port.number}", "ok", f"{port.key}: free")
        else:
            yield _taken(port)


def _taken(port: Port) -> HostFinding:
    return HostFinding(
        f"port {port.number}",
        "problem",
        f"{port.key}: another process listens on {port.number} already",
        "OBI ends with exit code 0 (address already in use)",
        f"set {port.key} to a free port; ss -ltnp 'sport = :{port.number}' shows who has it",
    )


def listening(place: Place) -> frozenset[int]:
    """TCP ports that somebody listens on in this network namespace. Source of fact: proc_net_tcp."""
    found: set[int] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in place.read(table).splitlines()[1:]:
            fields = line.split()
            if len(fields) > 3 and fields[3] == _LISTEN:
                found.add(int(fields[1].rpartition(":")[2], 16))
    return frozenset(found)
