"""What processes hold in memory, from /proc."""

from __future__ import annotations

from pathlib import Path


def resident_mb(pid: int) -> float:
    """Resident memory now."""
    return _field(pid, "VmRSS")


def peak_mb(pid: int) -> float:
    """The largest resident memory since it was last forgotten."""
    return _field(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    """Let the peak begin again at what is resident now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def children(pid: int) -> dict[str, float]:
    """Resident memory of every descendant, by name."""
    found: dict[str, float] = {}
    for child in _children(pid):
        name = Path(f"/proc/{child}/comm").read_text(encoding="utf-8").strip()
        found[name] = found.get(name, 0.0) + resident_mb(child)
        for name_below, size in children(child).items():
            found[name_below] = found.get(name_below, 0.0) + size
    return found


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for path in listed for word in path.read_text(encoding="ascii").split()]


def _field(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/{pid}/status has no {name}")
