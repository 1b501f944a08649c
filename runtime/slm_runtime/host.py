"""The machine around a GPU, or without one: its memory, its CPUs, and disjoint cores for the engines of a pack.

Exists so that packs are measurable on CPU, where each engine is pinned to its share, and so that beside a GPU no engine
is measured with more CPU than a replica gets. Assumes Linux. A container's limits count as the machine's.
"""

from __future__ import annotations

import contextlib
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slm_core.units import GIB
from slm_core.wording import several

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

CGROUP = Path("/sys/fs/cgroup")
"""The container's own, as it sees it. Names after the first of each file below are those of cgroup v1."""
OWN_CPUS, OWN_BYTES = 1, GIB
"""For the load generator and whatever else is no engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one replica may use of a machine. Absent: it has no limit, or none is known."""

    cpus: float | None = None
    memory_bytes: int | None = None


def memory_bytes() -> int:
    """Memory of the machine, or of the container when that is less."""
    sizes = [_meminfo("MemTotal")]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            sizes.append(int((CGROUP / name).read_text()))
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


def available() -> Share:
    """What this container may use: its limits, or the machine when that is less."""
    cpus = min(len(os.sched_getaffinity(0)), _cpu_quota() or math.inf)
    return Share(cpus=cpus, memory_bytes=memory_bytes())


def cpu_seconds(pids: Collection[int]) -> float:
    """CPU time that living processes have used, all threads."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def cpu_periods() -> tuple[int, int]:
    """Periods of the CPU quota until now, and in how many of them the container had to wait for the next."""
    found = _counts("cpu.stat", "cpu/cpu.stat", "cpu,cpuacct/cpu.stat")
    return found.get("nr_periods", 0), found.get("nr_throttled", 0)


def kills_for_memory() -> int:
    """How many processes of this container the kernel has killed for want of memory; 0 where nobody counts."""
    return _counts("memory.events", "memory/memory.oom_control").get("oom_kill", 0)


def unreclaimable_bytes() -> int:
    """Memory of this container that the kernel cannot take back, as it does files' pages; 0 where nobody counts."""
    found = _counts("memory.stat", "memory/memory.stat")
    return found.get("anon", found.get("rss", 0)) + found.get("shmem", 0)


@contextlib.contextmanager
def held_to(cores: tuple[int, ...]) -> Iterator[None]:
    """What this thread starts inside the block runs on these cores; none: wherever it likes."""
    before = os.sched_getaffinity(0)
    if cores:
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cores_of_engines(cores: frozenset[int], engines: int, each: float | None) -> tuple[tuple[int, ...], ...]:
    """Disjoint cores for each engine, as many as a replica may use; empty ones where that is not known or not there.

    The first core stays with the load generator, which is not held.
    """
    ranked, width = sorted(cores)[OWN_CPUS:], math.ceil(each or 0)
    if not width or width * engines > len(ranked):
        return ((),) * engines
    return tuple(tuple(ranked[i * width : (i + 1) * width]) for i in range(engines))


def shortages(available: Share, engines: int, each: Share) -> tuple[str, ...]:
    """What keeps engines from getting what replicas would have, a sentence each."""
    found = []
    who = f"{several(engines, 'engine')} as large as a replica, and the load generator, want"
    if each.cpus and available.cpus and available.cpus < (cpus_wanted := engines * each.cpus + OWN_CPUS):
        found.append(
            f"{who} {cpus_wanted:g} CPUs and may use {available.cpus:g}: figures are those of less CPU than replicas get"
        )
    if each.memory_bytes and available.memory_bytes:
        wanted = engines * each.memory_bytes + OWN_BYTES
        if available.memory_bytes < wanted:
            limits = f"{wanted / GIB:.1f} GiB of host memory and may use {available.memory_bytes / GIB:.1f} GiB"
            found.append(f"{who} {limits}: the kernel ends them all when that is used up")
    return tuple(found)


def _counts(*names: str) -> dict[str, int]:
    """The named counts of the first of these files that can be read."""
    for name in names:
        with contextlib.suppress(OSError, ValueError):
            lines = (CGROUP / name).read_text().splitlines()
            return {key: int(count) for key, count in map(str.split, lines)}
    return {}


def _cpu_quota() -> float | None:
    with contextlib.suppress(OSError, ValueError):
        quota, period = (CGROUP / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    for folder in ("cpu", "cpu,cpuacct"):
        with contextlib.suppress(OSError, ValueError):
            quota, period = ((CGROUP / folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            return None if int(quota) < 0 else int(quota) / int(period)
    return None


def _meminfo(name: str) -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/meminfo has no {name}")
