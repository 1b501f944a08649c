"""The machine without a GPU: its memory, and disjoint cores for the engines of a pack.

Exists so that packs are measurable on CPU, where each engine is pinned to its share. Assumes Linux. A container's
limits count as the machine's.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def memory_bytes() -> int:
    """Memory of the machine, or of the container when that is less."""
    sizes = [_meminfo("MemTotal")]
    for path in CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):
            sizes.append(int(path.read_text()))
    return min(sizes)


def free_bytes() -> int:
    """Memory that could be used now without swapping."""
    return min(_meminfo("MemAvailable"), memory_bytes())


def resident_bytes(pids: list[int]) -> int:
    """Memory of some processes; pages that they share with others count in proportion."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += sum(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))
    return total


def shares(cores: frozenset[int], engines: int) -> tuple[tuple[int, ...], ...]:
    """Equal shares of the cores in order; with fewer cores than engines, engines take turns on a core each."""
    ranked = sorted(cores)
    if len(ranked) < engines:
        return tuple((ranked[i % len(ranked)],) for i in range(engines))
    share = len(ranked) // engines
    return tuple(tuple(ranked[i * share : (i + 1) * share]) for i in range(engines))


def _meminfo(name: str) -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/meminfo has no {name}")
