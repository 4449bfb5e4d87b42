#!/usr/bin/env python3
"""runc for machines that are themselves in a sandbox: asks for no capability that this machine does not have.

Docker gives a privileged container every capability it knows, and runc fails when one of them is not to be had (here
CAP_SYS_RESOURCE). Debian's runc 1.1 also knows no time namespaces, which newer engines ask for.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

RUNC = "/usr/sbin/runc"
# Names by number: linux/capability.h.
_NAMES = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""


def main() -> None:
    """Becomes runc, after a look at what it is to create."""
    words = sys.argv[1:]
    if "create" in words:
        bundle = words[words.index("--bundle") + 1] if "--bundle" in words else "."
        path = Path(bundle, "config.json")
        specification = json.loads(path.read_bytes())
        had = _bounding_set()
        sets = specification["process"].get("capabilities", {})
        for kind, names in sets.items():
            sets[kind] = [name for name in names if name.removeprefix("CAP_") in had]
        spaces = specification["linux"]["namespaces"]
        specification["linux"]["namespaces"] = [space for space in spaces if space["type"] != "time"]
        path.write_text(json.dumps(specification), encoding="utf-8")
    os.execv(RUNC, [RUNC, *words])


def _bounding_set() -> set[str]:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    bits = int(next(line for line in status.splitlines() if line.startswith("CapBnd:")).split()[1], 16)
    return {name for number, name in enumerate(_NAMES.split()) if bits >> number & 1}


if __name__ == "__main__":
    main()
