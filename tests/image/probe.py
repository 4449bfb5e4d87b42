"""Run inside the image by its own Python: prints as JSON what can be written, run and done there."""

import json
import os
import stat

UNSEEN = ("/proc", "/sys")
"""Kernel interfaces: what they let a process change is the process itself, and ``mounts`` says how they are mounted."""


def look() -> dict[str, list[str]]:
    writable: list[str] = []
    runnable: list[str] = []
    privileged: list[str] = []
    names: list[str] = []
    for place, folders, files in os.walk("/"):
        folders[:] = [name for name in folders if os.path.join(place, name) not in UNSEEN]
        if can_write(place):
            writable.append(place)
        for name in files:
            path = os.path.join(place, name)
            status = os.lstat(path)
            if not stat.S_ISREG(status.st_mode):
                continue
            names.append(path)
            if status.st_mode & 0o111:
                runnable.append(path)
            if status.st_mode & (stat.S_ISUID | stat.S_ISGID) or "security.capability" in os.listxattr(path):
                privileged.append(path)
            if os.access(path, os.W_OK):
                writable.append(path)
    return {"writable": writable, "runnable": runnable, "privileged": privileged, "names": names}


def can_write(folder: str) -> bool:
    try:
        os.close(os.open(os.path.join(folder, ".probe"), os.O_CREAT | os.O_WRONLY))
    except OSError:
        return False
    os.unlink(os.path.join(folder, ".probe"))
    return True


def process() -> dict[str, list[str]]:
    with open("/proc/self/status") as file:
        lines = [line.split(":", 1) for line in file]
    wanted = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
    return {name: value.split() for name, value in lines if name in wanted}


def mounts() -> dict[str, list[str]]:
    with open("/proc/self/mountinfo") as file:
        return {fields[4]: fields[5].split(",") for fields in map(str.split, file)}


print(json.dumps({**look(), "process": process(), "mounts": mounts()}))
