"""Kernels, rights and ports as they are found on hosts, and what follows for OBI."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from obi_mcp.agent.asks import Asks, Port
from obi_mcp.agent.built import Built
from obi_mcp.agent.preflight import (
    Place,
    Privileges,
    file_capabilities,
    kernel_findings,
    memlock_finding,
    port_findings,
    privilege_findings,
)
from obi_mcp.obi.capabilities import Feature

ALL = (1 << 41) - 1
FLOWS = Asks(frozenset({Feature.NETWORK}))
REQUESTS = Asks(frozenset({Feature.APPLICATION}))
BTF, KPROBE = "sys/kernel/btf/vmlinux", "sys/bus/event_source/devices/kprobe/type"
PARANOID, LOCKDOWN = "proc/sys/kernel/perf_event_paranoid", "sys/kernel/security/lockdown"
GOOD = {BTF: "", KPROBE: "6", PARANOID: "2", LOCKDOWN: "[none] integrity confidentiality"}


def place(root: Path, release: str = "6.1.0-13-amd64", **files: str | None) -> Place:
    named = {"btf": BTF, "kprobe": KPROBE, "paranoid": PARANOID, "lockdown": LOCKDOWN}
    for path, text in {**GOOD, **{named[name]: value for name, value in files.items()}}.items():
        if text is not None:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
    return Place(root, release)


KERNELS: list[tuple[str, Asks, dict[str, str | None], list[tuple[str, str]]]] = [
    # what, asked, what differs from a good kernel, what is not ok
    ("a good one", REQUESTS, {}, []),
    ("a good one for flows", FLOWS, {}, []),
    ("too old", FLOWS, {"release": "5.4.0-150-generic"}, [("kernel", "problem")]),
    ("Red Hat's 4.18", FLOWS, {"release": "4.18.0-513.el8.x86_64"}, [("kernel", "note")]),
    ("without BTF", FLOWS, {"btf": None}, [("BTF", "problem")]),
    ("without kprobes", REQUESTS, {"kprobe": None}, [("kprobes", "problem")]),
    ("without kprobes, flows alone", FLOWS, {"kprobe": None}, []),
    (
        "without kprobes, flows too",
        Asks(frozenset({Feature.NETWORK, Feature.APPLICATION})),
        {"kprobe": None},
        [("kprobes", "note")],
    ),
    ("Debian's perf", REQUESTS, {"paranoid": "3"}, [("perf_event_paranoid", "note")]),
    ("locked down", REQUESTS, {"lockdown": "none [integrity] confidentiality"}, [("lockdown", "note")]),
    ("locked down for good", REQUESTS, {"lockdown": "none integrity [confidentiality]"}, [("lockdown", "problem")]),
    ("nothing known is asked", Asks(), {"kprobe": None}, [("kprobes", "problem")]),
    (
        "no securityfs",
        Asks(frozenset({Feature.APPLICATION, Feature.CONTEXT_PROPAGATION})),
        {"lockdown": None},
        [("securityfs", "note")],
    ),
]


@pytest.mark.parametrize(("what", "asks", "files", "wanted"), KERNELS, ids=[row[0] for row in KERNELS])
def test_a_kernel_is_judged_for_what_is_asked(
    tmp_path: Path, what: str, asks: Asks, files: dict[str, str | None], wanted: list[tuple[str, str]]
) -> None:
    release = files.pop("release", None) or "6.1.0-13-amd64"
    found = list(kernel_findings(asks, place(tmp_path, release, **files)))
    assert [(one.subject, one.severity) for one in found if one.severity != "ok"] == wanted
    assert all(one.consequence for one in found if one.severity != "ok")
    assert all(one.way_out for one in found if one.severity == "problem")


def bits(*numbers: int) -> int:
    return sum(1 << number for number in numbers)


BPF, PERFMON, NET_RAW, SYS_ADMIN = 39, 38, 13, 21
RIGHTS: list[tuple[str, Asks, Privileges, str | None, str]] = [
    # what, asked, who, what it lacks, what stands in the way out
    ("root", REQUESTS, Privileges(0, ALL, ALL), None, ""),
    ("a container's root", FLOWS, Privileges(0, bits(NET_RAW), bits(NET_RAW)), "CAP_BPF, CAP_PERFMON", "--cap-add=BPF"),
    ("SYS_ADMIN instead", FLOWS, Privileges(0, bits(NET_RAW, SYS_ADMIN), ALL), None, ""),
    ("a user", FLOWS, Privileges(1000, 0, ALL), "CAP_BPF, CAP_PERFMON, CAP_NET_RAW", "sudo setcap cap_bpf,cap_perfmon"),
    ("a user, the file has them", FLOWS, Privileges(1000, 0, ALL, bits(BPF, PERFMON, NET_RAW)), None, ""),
    (
        "a user under no_new_privs",
        FLOWS,
        Privileges(1000, 0, ALL, bits(BPF, PERFMON, NET_RAW), no_new_privileges=True),
        "CAP_BPF, CAP_PERFMON, CAP_NET_RAW",
        "no_new_privs, where setcap is void",
    ),
]


@pytest.mark.parametrize(("what", "asks", "who", "lacks", "way_out"), RIGHTS, ids=[row[0] for row in RIGHTS])
def test_missing_rights_are_named_with_the_way_to_give_them(
    tmp_path: Path, what: str, asks: Asks, who: Privileges, lacks: str | None, way_out: str
) -> None:
    (found,) = privilege_findings(asks, who, place(tmp_path), "/opt/obi")
    if lacks is None:
        assert found.severity == "ok"
    else:
        assert (found.severity, f"lacks {lacks}" in found.evidence) == ("problem", True), found.evidence
        assert way_out in found.way_out
        assert "docker run --pid=host" in found.way_out


SYS_RESOURCE = 24
LOCKED: list[tuple[str, str, Privileges, str]] = [
    ("a kernel of today", "6.1.0-13-amd64", Privileges(1000, 0, ALL, memlock=65_536), "ok"),
    ("any amount", "5.8.0-63-generic", Privileges(1000, 0, ALL, memlock=-1), "ok"),
    ("root may raise it", "5.8.0-63-generic", Privileges(0, ALL, ALL, memlock=65_536), "ok"),
    ("the file may", "5.8.0-63-generic", Privileges(1000, 0, ALL, bits(SYS_RESOURCE), memlock=65_536), "ok"),
    ("too little", "5.8.0-63-generic", Privileges(1000, 0, ALL, memlock=65_536), "problem"),
]


@pytest.mark.parametrize(("what", "release", "who", "severity"), LOCKED, ids=[row[0] for row in LOCKED])
def test_locked_memory_matters_on_older_kernels(
    tmp_path: Path, what: str, release: str, who: Privileges, severity: str
) -> None:
    found = memlock_finding(who, place(tmp_path, release))
    assert found.severity == severity
    assert (found.evidence == "at most 64 KiB may be locked") == (severity == "problem")


def test_beyla_1_asks_for_what_it_checks_and_for_its_file_system(tmp_path: Path) -> None:
    old, new = Built("beyla", "v1.8.0"), Built("beyla", "v2.0.0")
    (found,) = privilege_findings(FLOWS, Privileges(1000, 0, ALL), place(tmp_path), "/opt/beyla", old)
    assert "sudo setcap cap_bpf,cap_perfmon,cap_net_raw,cap_dac_read_search+ep /opt/beyla" in found.way_out
    rights = Privileges(1000, 0, ALL, bits(BPF, PERFMON, NET_RAW))
    assert [one.severity for one in privilege_findings(FLOWS, rights, place(tmp_path), "/opt/beyla", new)] == ["ok"]
    some = Privileges(0, ALL & ~bits(SYS_ADMIN), ALL)
    (found,) = privilege_findings(REQUESTS, some, place(tmp_path), "/opt/beyla", old)
    assert "lacks CAP_SYS_ADMIN" in found.evidence


def test_perf_that_is_shut_asks_for_more(tmp_path: Path) -> None:
    (found,) = privilege_findings(REQUESTS, Privileges(0, ALL & ~bits(SYS_ADMIN), ALL), place(tmp_path), "/opt/obi")
    assert found.severity == "ok"
    strict = place(tmp_path, paranoid="4")
    (found,) = privilege_findings(REQUESTS, Privileges(0, ALL & ~bits(SYS_ADMIN), ALL), strict, "/opt/obi")
    assert "CAP_SYS_ADMIN" in found.evidence


def test_the_capabilities_of_a_file_are_read_as_the_kernel_keeps_them() -> None:
    low, high = bits(NET_RAW), bits(BPF) >> 32
    assert file_capabilities(struct.pack("<5I", 0x02000001, low, 0, high, 0)) == bits(NET_RAW, BPF)
    assert file_capabilities(struct.pack("<5I", 0x02000000, low, 0, high, 0)) == 0  # permitted, not effective
    assert file_capabilities(b"") == 0


TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:2328 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
"""


def test_a_taken_port_is_named_by_its_setting(tmp_path: Path) -> None:
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/tcp").write_text(TCP)
    asks = Asks(ports=(Port(8080, "prometheus_export.port"), Port(9000, "health_check.port")))
    found = list(port_findings(asks, Place(tmp_path)))
    assert [(one.subject, one.severity) for one in found] == [("port 8080", "problem"), ("port 9000", "ok")]
    assert "set prometheus_export.port to a free port" in found[0].way_out
    own = list(port_findings(asks, Place(tmp_path), own=frozenset({8080})))
    assert {one.severity for one in own} == {"ok"}
