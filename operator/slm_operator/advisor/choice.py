"""What is served, chosen from the candidates that passed.

Assumes judged candidates. Must never read a clock, a cluster or a preference that is not in the settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slm_core.measurements import SharingMode
from slm_core.units import GIB

from slm_operator.advisor import memory
from slm_operator.advisor.advice import CheckName, Closest, ModeChoice, Objective
from slm_operator.advisor.closest import closest_of, nearest
from slm_operator.advisor.sentences import gib, smaller_batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slm_operator.advisor.advice import Candidate
    from slm_operator.advisor.case import Case


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which point is served, by how many engines, in how much KV memory."""

    judged: Candidate
    """The point that was chosen, or that lends batch and KV bytes to a pack nobody measured."""
    replicas: int
    mode: SharingMode
    kv_bytes: int | None
    borrowed: bool = False
    """The pack itself was not measured: its figures are not known."""
    closest: Closest | None = None
    """Present when nothing satisfies."""
    notes: tuple[str, ...] = ()
    """What should be known besides."""


def choose(case: Case, singles: Sequence[Candidate], packs: Sequence[Candidate], best: Candidate | None) -> Choice:
    """The best of what passed; where nothing did, what comes nearest. `best` is the best single engine that passed."""
    asked = case.settings.replicas_per_gpu or 1
    passed = [j for j in packs if j.passed]
    if asked == 1 and best:
        passed.append(best)
    if passed:
        return _as_measured(case, _best_of(case, passed, best))
    if asked == 1:
        return _infeasible(case, nearest(singles))
    missed = nearest(j for j in packs if j.point.replicas == asked and j.last.name is CheckName.SLO)
    return _infeasible(case, missed) if missed else _borrow(case, singles, asked)


def throughput_then_memory(judged: Candidate) -> tuple[float, int]:
    """Rank: the most tokens per second, and of equals the smallest batches."""
    return judged.throughput, -judged.point.full_load


def _best_of(case: Case, passed: Sequence[Candidate], best: Candidate | None) -> Candidate:
    if case.settings.objective is Objective.THROUGHPUT:
        return max(passed, key=throughput_then_memory)
    enough = [j for j in passed if best is None or j.throughput >= best.throughput]
    return (
        min(enough, key=lambda j: (_memory_rank(case, j), -j.throughput))
        if enough
        else max(passed, key=throughput_then_memory)
    )


def _memory_rank(case: Case, judged: Candidate) -> int:
    """Bytes where the ledger tells them, else sequences, which need bytes."""
    used = memory.used_bytes(case, judged.point.replicas, memory.kv_bytes(case, judged.point))
    return judged.point.full_load if used is None else used


def _as_measured(case: Case, judged: Candidate, closest: Closest | None = None) -> Choice:
    point = judged.point
    return Choice(
        judged=judged,
        replicas=point.replicas,
        mode=point.sharing_mode,
        kv_bytes=memory.kv_bytes(case, point),
        closest=closest,
    )


def _infeasible(case: Case, judged: Candidate | None) -> Choice:
    assert judged is not None, "check_document asks for a full single-engine point"
    return _as_measured(case, judged, closest_of(judged))


def _borrow(case: Case, singles: Sequence[Candidate], replicas: int) -> Choice:
    """Batch and KV bytes of the best single engine whose memory fits a slice of the user's size."""
    passed = sorted((j for j in singles if j.passed), key=throughput_then_memory, reverse=True)
    missed = None if passed else nearest(singles)
    lenders = [missed] if missed else passed
    room = memory.kv_room(case, replicas)
    fitting = [j for j in lenders if room is None or (memory.kv_bytes(case, j.point) or 0) <= room]
    if not fitting:
        return _too_many(case, lenders[-1], replicas)
    lender, wished = fitting[0], lenders[0]
    notes = () if lender is wished else (smaller_batch(wished.point, memory.kv_bytes(case, wished.point), room),)
    return Choice(
        judged=lender,
        replicas=replicas,
        mode=_mode(case, replicas),
        kv_bytes=memory.kv_bytes(case, lender.point),
        borrowed=True,
        closest=closest_of(missed) if missed else None,
        notes=notes,
    )


def _too_many(case: Case, smallest: Candidate, replicas: int) -> Choice:
    """Not even the smallest batch fits the user's slice. Closest: as many engines as fit with it."""
    kv = memory.kv_bytes(case, smallest.point) or 0
    most = max(memory.most_that_fit(case, kv), 1)
    need, share = case.fixed_bytes + kv, memory.slice_bytes(case, replicas)
    closest = Closest(
        check=CheckName.MEMORY,
        value=need / GIB,
        limit=share / GIB,
        because=f"{replicas} engines per GPU leave each {gib(share)}, and one needs {gib(need)} even at B={smallest.point.batch_size}",
        mend=f"ask for at most {most} per GPU, or use a GPU with more memory, a quantised model or a smaller maxModelLen",
    )
    return Choice(
        judged=smallest, replicas=most, mode=_mode(case, most), kv_bytes=kv, borrowed=most > 1, closest=closest
    )


def _mode(case: Case, replicas: int) -> SharingMode:
    """The mode of a pack that nobody measured: the user's, else MPS, which never lost to time slicing."""
    if replicas == 1:
        return SharingMode.NONE
    return SharingMode.TIME_SLICING if case.settings.mode is ModeChoice.TIME_SLICING else SharingMode.MPS
