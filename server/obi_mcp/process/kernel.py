"""What the kernel holds a child to, by ctypes: Landlock for files, seccomp for sockets, a signal when we die.

Runs in the launcher and in its children between fork and exec, so it imports little. Nothing here is an error where
the kernel lacks it: ``landlock_abi`` and ``doctor`` say so. Sources of fact: linux/landlock.h, linux/seccomp.h,
linux/audit.h, asm/unistd_64.h and asm-generic/unistd.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:  # the launcher's spares copy what it imports
    from collections.abc import Sequence

_LIBC = ctypes.CDLL(None, use_errno=True)

_PR_SET_PDEATHSIG = 1
_PR_SET_SECCOMP = 22
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAPBSET_DROP = 24
_SECCOMP_MODE_FILTER = 2

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH = 1

_CAPABILITY_VERSION_3 = 0x20080522
# SYS_MODULE, SYS_RAWIO, SYS_PTRACE, SYS_ADMIN, SYS_BOOT, MKNOD, SYSLOG, PERFMON, BPF, CHECKPOINT_RESTORE
_DROPPED_CAPABILITIES = (16, 17, 19, 21, 22, 27, 34, 38, 39, 40)

EXECUTE = 1 << 0
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
REMOVE_DIR = 1 << 4
TRUNCATE = 1 << 14
_FIRST_NET_ABI, _FIRST_SCOPE_ABI = 4, 6
_FS_BITS_BY_ABI = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_READ = READ_FILE | READ_DIR
_ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | 1 << 15
_TCP = 0b11
_ABSTRACT_SOCKETS, _SIGNALS = 1, 2

# What a filter has no need of: sockets, and the doors by which a process reaches another or a new part of the kernel.
_DENIED_CALLS = {
    "x86_64": {
        "socket": 41,
        "connect": 42,
        "socketpair": 53,
        "bind": 49,
        "ptrace": 101,
        "keyctl": 250,
        "unshare": 272,
        "perf_event_open": 298,
        "setns": 308,
        "process_vm_readv": 310,
        "process_vm_writev": 311,
        "bpf": 321,
        "userfaultfd": 323,
        "io_uring_setup": 425,
        "pidfd_getfd": 438,
    },
    "aarch64": {
        "unshare": 97,
        "ptrace": 117,
        "socket": 198,
        "socketpair": 199,
        "bind": 200,
        "connect": 203,
        "keyctl": 219,
        "perf_event_open": 241,
        "setns": 268,
        "process_vm_readv": 270,
        "process_vm_writev": 271,
        "bpf": 280,
        "userfaultfd": 282,
        "io_uring_setup": 425,
        "pidfd_getfd": 438,
    },
}
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SIGACTION = {"x86_64": 13, "aarch64": 134}
_SIGNAL_COUNT = 64
_X32_BIT = 0x40000000
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_EPERM = 1


def die_with_parent(parent: int) -> None:
    """This process is killed when its parent ends; at once if the parent has ended already."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def default_signals() -> None:
    """Every signal has its default again and none is blocked, whatever this process inherited or Python set.

    By the system call itself: the C library hides two signals of its own (32 and 33), and whoever started the server
    may have them ignored.
    """
    number = _SIGACTION.get(os.uname().machine)
    default = bytes(4 * 8)  # handler, flags, restorer and mask; where there is no restorer the rest is not read
    for signum in range(1, _SIGNAL_COUNT + 1):
        if signum in (signal.SIGKILL, signal.SIGSTOP):
            continue
        if number is not None:
            _LIBC.syscall(number, signum, default, None, ctypes.c_size_t(8))
        elif signum in signal.valid_signals():
            signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def adopt_orphans() -> None:
    """Descendants whose parent ends become children of this process, so that it can end and reap them."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def no_new_privileges() -> None:
    """No set-user-id bit or file capability gives this process or its children anything any more."""
    _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def drop_capabilities() -> None:
    """For root: gives up for good what opens the kernel's memory, other processes and devices (capabilities(7))."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    held = ctypes.create_string_buffer(24)
    if _LIBC.capget(header, held) != 0:
        return
    dropped = sum(1 << number for number in _DROPPED_CAPABILITIES)
    for number in _DROPPED_CAPABILITIES:
        _LIBC.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
    low, high = ~dropped & 0xFFFFFFFF, ~(dropped >> 32) & 0xFFFFFFFF
    words = struct.unpack("=6I", held.raw)
    kept = (word & (low if place < 3 else high) for place, word in enumerate(words))
    _LIBC.capset(header, struct.pack("=6I", *kept))


def landlock_abi() -> int:
    """The version of Landlock that this kernel has; 0: none."""
    return max(int(_LIBC.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_FLAG)), 0)


def landlock_ruleset(
    *,
    read: list[str],
    execute: list[str],
    write: list[str],
    everything: bool,
    network: bool,
    remove: Sequence[str] = (),
) -> int | None:
    """A descriptor of a ruleset that any number of children can put on; None where the kernel has no Landlock.

    ``everything``: what is not listed may not even be read; otherwise only writing is held to ``write``. A path that
    is not there is left out. ``network`` False: no TCP either. ``remove``: where empty directories may be removed.
    Raises: OSError when the kernel refuses.
    """
    abi = landlock_abi()
    if not abi:
        return None
    all_bits = (1 << _FS_BITS_BY_ABI.get(abi, 16)) - 1
    handled = all_bits if everything else all_bits & ~(_READ | EXECUTE)
    scoped = _SIGNALS if network else _SIGNALS | _ABSTRACT_SOCKETS
    fields = [handled]
    if abi >= _FIRST_NET_ABI:
        fields.append(0 if network else _TCP)
    if abi >= _FIRST_SCOPE_ABI:
        fields.append(scoped)
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    ruleset = _checked(_LIBC.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0))
    granted = (read, _READ), (execute, READ_FILE | EXECUTE), (write, all_bits & ~EXECUTE), (remove, REMOVE_DIR)
    for paths, bits in granted:
        for path in paths:
            _allow(ruleset, path, bits & handled)
    return ruleset


def landlock_restrict(ruleset: int) -> None:
    """Puts the ruleset on this process for good. Needs ``no_new_privileges``. Raises: OSError."""
    _checked(_LIBC.syscall(_RESTRICT_SELF, ruleset, 0))


def seccomp_offered() -> bool:
    """Whether this kernel takes filters: it does if it would read the one that is not there (EFAULT, not EINVAL)."""
    return bool(_LIBC.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, None, 0, 0) and ctypes.get_errno() == errno.EFAULT)


def seccomp_filter() -> bytes | None:
    """A program that denies sockets and the like with EPERM; None on a machine whose call numbers we do not know, and
    on a kernel without filters."""
    machine = os.uname().machine
    if machine not in _AUDIT_ARCH or not seccomp_offered():
        return None
    calls = sorted(_DENIED_CALLS[machine].values())
    program = [
        (_LOAD, 0, 0, 4),
        (_JUMP_EQUAL, 1, 0, _AUDIT_ARCH[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),
    ]
    if machine == "x86_64":
        program += [(_JUMP_AT_LEAST, 0, 1, _X32_BIT), (_RETURN, 0, 0, _ERRNO | _EPERM)]
    for number in calls:
        program += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | _EPERM)]
    program.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *step) for step in program)


def seccomp_restrict(program: bytes) -> None:
    """Puts the filter on this process for good. Needs ``no_new_privileges``. Raises: OSError."""
    steps = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(steps))
    _checked(_LIBC.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0))


def _allow(ruleset: int, path: str, bits: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(path):
            bits &= _ON_FILES
        if bits:
            rule = struct.pack("=Qi", bits, descriptor)
            _checked(_LIBC.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0))
    finally:
        os.close(descriptor)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
