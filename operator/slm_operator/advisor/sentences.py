"""The advice in words that a platform engineer can act on.

The one source of sentences for status, `kubectl slm`, the report and the golden tests; each check brings its own.
Assumes the choice is made. Must never add a figure that the values do not hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_core.units import GIB

from slm_operator.advisor.advice import Objective, Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slm_core.measurements import Point, SharingMode

    from slm_operator.advisor.advice import Advice, Candidate, Closest, Predicted
    from slm_operator.advisor.case import Case

HOW = {Source.PREDICTED: "predicted between measured points", Source.ESTIMATED: "estimated"}


def say(case: Case, advice: Advice, notes: tuple[str, ...]) -> tuple[str, ...]:
    """The answer, its figures, the comparison, the load, the memory, and what should be known besides."""
    return tuple(_sentences(case, advice, notes))


def name(replicas: int, mode: SharingMode) -> str:
    """`one engine per GPU`, `2 engines per GPU (MPS)`."""
    return "one engine per GPU" if replicas == 1 else f"{replicas} engines per GPU ({mode})"


def gib(count: float) -> str:
    """Bytes for a person."""
    return f"{count / GIB:.1f} GiB"


def smaller_batch(wished: Point, kv: int | None, room: int | None) -> str:
    """Why a pack that the user chose runs smaller batches than one engine would."""
    return (
        f"B={wished.batch_size} would be faster and needs {gib(kv or 0)} of KV cache, "
        f"where such a slice leaves {gib(room or 0)}: give fewer engines per GPU to have it."
    )


def _sentences(case: Case, advice: Advice, notes: tuple[str, ...]) -> Iterator[str]:
    if advice.closest:
        yield f"The request cannot be met: {advice.closest.because}."
        yield _mend(advice.closest)
    kv = "" if advice.kv_bytes is None else f" and {gib(advice.kv_bytes)} of KV cache"
    sequences = "one sequence" if advice.batch_size == 1 else f"{advice.batch_size} sequences"
    what = "Closest is" if advice.closest else "Serve"
    yield f"{what} {name(advice.replicas_per_gpu, advice.sharing_mode)}, each with at most {sequences} at once{kv}."
    if advice.predicted:
        yield _figures(advice.predicted)
    yield from _comparison(advice)
    yield from _load(advice)
    if advice.freed_bytes and advice.kv_bytes and case.ledger:
        more = advice.freed_bytes // (case.ledger.fixed_bytes + advice.kv_bytes)
        yield f"{gib(advice.freed_bytes)} of the GPU stay free" + (
            f", room for {more} more such engine{'s' if more > 1 else ''}." if more else "."
        )
    if case.settings.objective is Objective.FREE_MEMORY:
        yield "The objective was to free memory: the least memory that makes no fewer tokens per second than the best single engine."
    yield from notes


def _mend(closest: Closest) -> str:
    return f"{closest.mend[0].upper()}{closest.mend[1:]}."


def _figures(p: Predicted) -> str:
    how = HOW.get(p.source, "as measured")
    return (
        f"One GPU makes {p.throughput_tokens_per_second:,.0f} tokens/s ({p.output_tokens_per_second:,.0f} of output) "
        f"at a mean ITL of {p.itl_ms:.1f} ms, {how}."
    )


def _comparison(advice: Advice) -> Iterator[str]:
    best = advice.best_single
    if advice.replicas_per_gpu > 1 and best:
        single = f"the best single engine (B={best.batch_size}: {best.throughput_tokens_per_second:,.0f} tokens/s at {best.itl_ms:.1f} ms)"
        if advice.gain is None:
            yield f"What it costs or gains is not known: no such pack was measured here. To compare: {single}."
        elif advice.gain < 0:
            yield f"That costs {-advice.gain:.1%} of the throughput of {single}."
        else:
            yield f"That is {advice.gain:+.1%} against {single}."
    elif advice.replicas_per_gpu == 1:
        yield _why_no_pack(advice)


def _why_no_pack(advice: Advice) -> str:
    """One engine is the answer: because no pack was measured, or because of what the nearest one failed."""
    packs = [c for c in advice.candidates if c.point.replicas > 1]
    if not packs:
        return "No pack was measured, so none is advised."
    nearest = max(packs, key=_progress)
    return f"No pack is advised. The nearest, B={nearest.point.batch_size} x {nearest.point.replicas} ({nearest.point.sharing_mode}): {nearest.because}."


def _progress(candidate: Candidate) -> tuple[int, float]:
    return len(candidate.checks), candidate.point.throughput_tokens_per_second


def _load(advice: Advice) -> Iterator[str]:
    pays = advice.pays_from_in_flight
    from_there = "" if pays is None else f" A pack pays from about {pays} requests in flight per GPU."
    if advice.load.in_flight is None:
        yield f"Decided for full batches, {advice.batch_size * advice.replicas_per_gpu} requests in flight per GPU.{from_there}"
    else:
        yield f"Decided for {advice.load.in_flight} requests in flight per GPU.{from_there}"
    if advice.source.replicas_per_gpu is Source.USER_CHOICE:
        yield f"The number of engines per GPU, {advice.replicas_per_gpu}, is the user's choice."
