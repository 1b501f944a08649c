"""The advice in words that a platform engineer can act on.

The one source of sentences for status, `kubectl slm`, the report and the golden tests; each check brings its own.
Assumes the choice is made. Must never add a figure that the values do not hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_core.candidates import Source
from slm_core.sharing import sharing_of
from slm_core.units import GIB

from slm_operator.advisor.advice import KvReason, Objective
from slm_operator.advisor.economy import gpu_hours_per_million_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slm_core.candidates import Candidate, Predicted
    from slm_core.choice import Alternative
    from slm_core.configuration import EngineConfiguration
    from slm_core.measurements import Point

    from slm_operator.advisor.advice import Advice, Closest
    from slm_operator.advisor.context import Context

HOW = {Source.PREDICTED: "predicted between measured points", Source.ESTIMATED: "estimated"}


def say(context: Context, advice: Advice, notes: tuple[str, ...]) -> tuple[str, ...]:
    """The answer, its figures, the comparison, the load, the memory, and what should be known besides."""
    return tuple(_sentences(context, advice, notes))


def name(configuration: EngineConfiguration) -> str:
    """`one engine per GPU`, `2 engines per GPU (MPS)`."""
    engines = configuration.engines_per_gpu
    return "one engine per GPU" if engines == 1 else f"{engines} engines per GPU ({configuration.sharing_mode})"


def gib(count: float) -> str:
    """Bytes for a person."""
    return f"{count / GIB:.1f} GiB"


def without_mps(because: str) -> str:
    """Why no engines are put under MPS."""
    return f"MPS is ruled out by {because}"


def smaller_batch(wished: Point, kv: int | None, room: int | None) -> str:
    """Why a pack that the user chose runs smaller batches than one engine would."""
    return (
        f"B={wished.batch_size} would be faster and needs {gib(kv or 0)} of KV cache, "
        f"where such a slice leaves {gib(room or 0)}: give fewer engines per GPU to have it."
    )


def shape(point: Point) -> str:
    """`B=64`, `B=64 x 2 (MPS)`."""
    packed = f" x {point.replicas} ({point.sharing_mode})" if point.replicas > 1 else ""
    return f"B={point.batch_size}{packed}"


def fraction_more(might: Alternative) -> str:
    """What was measured of an alternative, against what is served."""
    return f"{_made(might)} {might.gain_fraction:.1%} more, which is within the noise of {might.noise_fraction:.1%}"


def _made(might: Alternative) -> str:
    return "is predicted to make" if might.candidate.figures.source is Source.PREDICTED else "measured"


def not_distinguished(fastest: Alternative) -> str:
    """Why something else is served than the fastest."""
    return (
        f"cannot be distinguished from the fastest, {shape(fastest.candidate.point)}, which {_made(fastest)} "
        f"{fastest.gain_fraction:.1%} more, within the noise of {fastest.noise_fraction:.1%}, "
        f"at {fastest.itl_ratio:.1f} times the ITL"
    )


def _given_up(advice: Advice) -> Iterator[str]:
    """What might be better by chance, and is not served for its latency."""
    if not advice.alternatives:
        return
    most = max(advice.alternatives, key=lambda a: a.most_fraction)
    yield (
        f"{shape(most.candidate.point)} might make up to {most.most_fraction:.1%} more at {most.itl_ratio:.1f} times the ITL: "
        f"it {fraction_more(most)}."
    )


def _sentences(context: Context, advice: Advice, notes: tuple[str, ...]) -> Iterator[str]:
    if advice.closest:
        yield f"The request cannot be met: {advice.closest.because}."
        yield _remedy(advice.closest)
    served, pool = advice.configuration, advice.configuration.kv_cache_bytes
    kv = "" if pool is None else f" and {gib(pool)} of KV cache"
    sequences = "one sequence" if served.batch_size == 1 else f"{served.batch_size} sequences"
    what = "Closest is" if advice.closest else "Serve"
    yield f"{what} {name(served)}, each with at most {sequences} at once{kv}."
    if advice.predicted:
        yield _figures(advice.predicted)
    yield from _comparison(advice)
    yield from _economy(context, advice)
    yield from _ruled_out(context, advice)
    yield from _given_up(advice)
    yield from _load(advice)
    if advice.kv_reason is KvReason.LONGEST_SEQUENCE:
        yield (
            f"One sequence of the longest length, {context.max_model_len:,} tokens, decides the KV cache, not the load: "
            "set spec.engine.maxModelLen to what requests need, and it takes less."
        )
    if advice.freed_bytes and pool and context.ledger:
        more = advice.freed_bytes // (context.ledger.fixed_bytes + pool)
        yield f"{gib(advice.freed_bytes)} of the GPU stay free" + (
            f", room for {more} more such engine{'s' if more > 1 else ''}." if more else "."
        )
    if context.settings.objective is Objective.FREE_MEMORY:
        yield "The objective was to free memory: the least memory that makes no fewer tokens per second than the best single engine."
    if context.settings.objective is Objective.ENERGY and advice.joules_per_token is not None:
        yield "The objective was energy: the fewest joules per token of all that meet the SLO, packs only where they also make more."
    yield from notes


def _remedy(closest: Closest) -> str:
    return f"{closest.remedy[0].upper()}{closest.remedy[1:]}."


def _figures(p: Predicted) -> str:
    how = HOW.get(p.source, "as measured")
    return (
        f"One GPU makes {p.throughput_tokens_per_second:,.0f} tokens/s ({p.output_tokens_per_second:,.0f} of output) "
        f"at a mean ITL of {p.itl_ms:.1f} ms, {how}."
    )


def _comparison(advice: Advice) -> Iterator[str]:
    best, engines = advice.best_single, advice.configuration.engines_per_gpu
    if engines > 1 and best:
        single = f"the best single engine (B={best.configuration.batch_size}: {best.throughput_tokens_per_second:,.0f} tokens/s at {best.itl_ms:.1f} ms)"
        if advice.gain is None:
            yield f"What it costs or gains is not known: no such pack was measured here. To compare: {single}."
        elif advice.gain < 0:
            yield f"That costs {-advice.gain:.1%} of the throughput of {single}."
        else:
            yield f"That is {advice.gain:+.1%} against {single}."
    elif engines == 1:
        yield _why_no_pack(advice)


def _economy(context: Context, advice: Advice) -> Iterator[str]:
    """What a million tokens take, where a price or watts are known, and what packing saves."""
    price, cost, joules = advice.price, advice.cost_per_million_tokens, advice.joules_per_token
    if advice.predicted is not None and (cost is not None or joules is not None):
        hours = f"A million tokens take {gpu_hours_per_million_tokens(advice.predicted):.3f} GPU hours"
        money = f", {cost:.3f} {price.currency} at {price.per_gpu_hour:g} an hour" if price and cost is not None else ""
        energy = f", {joules:.3f} J each" if joules is not None else ""
        yield f"{hours}{money}{energy}."
    if advice.price is None and (context.settings.priced or context.settings.objective is Objective.COST):
        yield (
            f"{context.product} has no price, so no cost is known; which of its configurations is cheapest is: give it one in "
            "config.prices.perGpuHour, or by --price-per-gpu-hour."
        )
    if (saved := advice.saved_gpu_hours_fraction) is not None:
        yield f"What takes 100 GPU hours with the best single engine takes {100 * (1 - saved):.1f} so."


def _why_no_pack(advice: Advice) -> str:
    """One engine is the answer: because no pack was measured, or because of what the nearest one failed."""
    nearest = _nearest_pack(advice)
    if nearest is None:
        return "No pack was measured, so none is advised."
    return f"No pack is advised. The nearest, {shape(nearest.point)}: {nearest.because}."


def _ruled_out(context: Context, advice: Advice) -> Iterator[str]:
    """Why MPS was no choice where any mode would do, unless it is what the nearest pack failed."""
    against, nearest = context.settings.against_mps, _nearest_pack(advice)
    if against is None or context.settings.mode is not None:
        return
    measured = any(_is_under_daemon(c) for c in advice.candidates)
    said = advice.configuration.engines_per_gpu == 1 and nearest is not None and _is_under_daemon(nearest)
    if (measured and not said) or advice.predicted is None:
        yield f"{without_mps(against)}."


def _nearest_pack(advice: Advice) -> Candidate | None:
    return max((c for c in advice.candidates if c.point.replicas > 1), key=_progress, default=None)


def _is_under_daemon(candidate: Candidate) -> bool:
    return candidate.point.replicas > 1 and sharing_of(candidate.point.sharing_mode).daemon is not None


def _progress(candidate: Candidate) -> tuple[int, float]:
    return len(candidate.checks), candidate.point.throughput_tokens_per_second


def _load(advice: Advice) -> Iterator[str]:
    pays, served = advice.pays_from_in_flight, advice.configuration
    from_there = "" if pays is None else f" A pack pays from about {pays} requests in flight per GPU."
    if advice.load.in_flight is None:
        yield f"Decided for full batches, {served.batch_size * served.engines_per_gpu} requests in flight per GPU.{from_there}"
    else:
        yield f"Decided for {advice.load.in_flight} requests in flight per GPU.{from_there}"
    if advice.source.engines_per_gpu is Source.USER_CHOICE:
        yield f"The number of engines per GPU, {served.engines_per_gpu}, is the user's choice."
