"""What processes cost, read from /proc: CPU seconds and memory. Linux only.

Whose processes they are is not here.
"""

import os
from collections.abc import Iterable
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat after the name, so that [1] is the parent; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def tree(root: int) -> list[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))):
            children.setdefault(int(stat[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def cpu(pids: Iterable[int], *, ended: bool = False) -> float:
    """CPU seconds so far; `ended` adds those of children that have ended (PostgreSQL's connections)."""
    total = 0
    for pid in pids:
        if stat := _stat(pid):
            total += sum(map(int, stat[11:15] if ended else stat[11:13]))
    return total / _TICK


def memory(pids: Iterable[int]) -> tuple[float, float]:
    """(PSS, RSS) in MB."""
    pss = rss = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                pss += int(line.split()[1])
            elif line.startswith("Rss:"):
                rss += int(line.split()[1])
    return pss / 1024, rss / 1024
