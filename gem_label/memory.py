"""How much memory the machine has, and how much of it this process can still get."""

from __future__ import annotations

import os
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")


def total_bytes() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def available_bytes(meminfo: Path = _MEMINFO, group: Path = _GROUP) -> int | None:
    """Bytes that the system and the container of this process have left, page cache included; None: not known.

    Args:
        meminfo: what Linux tells of its memory.
        group: the folder of the control group (version 2) that limits a container.

    Example:
        >>> free = available_bytes()
        >>> free is None or free > 0
        True
    """
    rooms = [room for room in (_of_system(meminfo), _of_group(group)) if room is not None]
    return min(rooms, default=None)


def _of_system(meminfo: Path) -> int | None:
    try:
        lines = meminfo.read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def _of_group(group: Path) -> int | None:
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return max(0, limit - used + int(counts["inactive_file"]))
    except (OSError, ValueError, KeyError):  # not limited ("max"), or not of this kind
        return None
