"""CPUs: what a container may use, what engines use of it, and to which cores they are held."""

import os
from pathlib import Path

import pytest
from slm_core.units import GIB
from slm_runtime import host
from slm_runtime.host import Share, cores_of_engines, held_to, shortages
from slm_runtime.processes import group_of

from tests.unit.runtime.test_engine_process import started

QUOTAS = [
    ("v2", {"cpu.max": "250000 100000\n", "memory.max": "1073741824\n"}, 2.5),
    ("v2 without a limit", {"cpu.max": "max 100000\n", "memory.max": "max\n"}, None),
    ("v1", {"cpu/cpu.cfs_quota_us": "150000", "cpu/cpu.cfs_period_us": "100000"}, 1.5),
    ("v1 without a limit", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
    ("v1 by its long name", {"cpu,cpuacct/cpu.cfs_quota_us": "50000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 0.5),
    ("no cgroup at all", {}, None),
    ("nonsense", {"cpu.max": "?"}, None),
]


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize(("name", "files", "quota"), QUOTAS, ids=[case[0] for case in QUOTAS])
def test_a_container_may_use_its_quota(
    name: str, files: dict[str, str], quota: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, files)
    monkeypatch.setattr(host, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: frozenset(range(8)))
    assert host.available().cpus == (quota or 8)


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
def test_a_container_may_use_its_memory(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "CGROUP", tmp_path)
    whole = host.memory_bytes()
    write(tmp_path, {name: "1048576\n"})
    assert host.available().memory_bytes == 1048576 < whole


PERIODS = [
    ("v2", {"cpu.stat": "usage_usec 7\nnr_periods 40\nnr_throttled 9\n"}, (40, 9)),
    ("v1", {"cpu/cpu.stat": "nr_periods 4\nnr_throttled 1\nthrottled_time 3\n"}, (4, 1)),
    ("without a limit", {"cpu.stat": "usage_usec 7\n"}, (0, 0)),
    ("none", {}, (0, 0)),
]


@pytest.mark.parametrize(("name", "files", "expected"), PERIODS, ids=[case[0] for case in PERIODS])
def test_throttled_periods_are_read(
    name: str, files: dict[str, str], expected: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, files)
    monkeypatch.setattr(host, "CGROUP", tmp_path)
    assert host.cpu_periods() == expected


def test_engines_get_disjoint_cores_and_leave_one_to_the_load() -> None:
    cores = frozenset(range(16))
    assert cores_of_engines(cores, 3, 2) == ((1, 2), (3, 4), (5, 6))
    assert cores_of_engines(cores, 1, 1.5) == ((1, 2),)
    assert cores_of_engines(cores, 8, 2) == ((),) * 8  # 17 would be needed
    assert cores_of_engines(cores, 2, None) == ((), ())


def test_fewer_cpus_or_memory_than_replicas_get_is_noted() -> None:
    replica = Share(cpus=2, memory_bytes=8 * GIB)
    assert shortages(Share(cpus=9, memory_bytes=33 * GIB), 4, replica) == ()
    assert shortages(Share(cpus=2, memory_bytes=8 * GIB), 4, Share()) == ()
    cpu, memory = shortages(Share(cpus=2, memory_bytes=8 * GIB), 4, replica)
    assert "4 engines as large as a replica, and the load generator, want 9 CPUs and may use 2" in cpu
    assert "want 33.0 GiB of host memory and may use 8.0 GiB" in memory


def test_cpu_time_of_processes_grows_with_their_work() -> None:
    before = host.cpu_seconds([os.getpid()])
    while host.cpu_seconds([os.getpid()]) - before < 0.03:
        pass
    assert host.cpu_seconds([2**22 + 1]) == 0  # no such process


async def test_an_engine_and_what_it_starts_stay_on_its_cores() -> None:
    before = os.sched_getaffinity(0)
    core = min(before)
    engine, _ = await started("polite", cores=(core,))
    held = [os.sched_getaffinity(pid) for pid in group_of(engine.pid)]
    await engine.stop()
    assert held == [{core}, {core}]
    assert os.sched_getaffinity(0) == before


def test_no_core_is_held_without_cores() -> None:
    before = os.sched_getaffinity(0)
    with held_to(()):
        assert os.sched_getaffinity(0) == before
