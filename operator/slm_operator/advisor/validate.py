"""Validates a question before it is answered: documents, SLOs and settings that contradict themselves are refused.

Advice from figures in the wrong unit looks like any other advice, so they must be found first. Assumes that the codec has
read the document (types, finite numbers, none negative). Must never repair: it names the field and the remedy. Must never
doubt a point for being slow, only for contradicting itself (`RULES`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

from slm_core.latency_model import is_full_single
from slm_core.measurements import Mark, camel
from slm_core.noise import LITTLES_LAW_FRACTION
from slm_core.point_checks import doubt_by, doubts_of, is_sound, only_one_sequence_is_sound, preemption
from slm_core.sharing import PACKED, allows_packs, sharing_of
from slm_core.sharing.exclusive import EXCLUSIVE
from slm_core.slo import METRICS, REFERENCE_BATCH_SIZE
from slm_core.slo_check import resolve
from slm_core.tuning import KNOBS
from slm_core.wording import several

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from slm_core.measurements import Latency, Ledger, MeasurementDocument, Point
    from slm_core.slo import Metric, Slo

    from slm_operator.advisor.advice import Settings

LITTLE_TOLERANCE = 2 * LITTLES_LAW_FRACTION
"""An unmarked point may decode this fraction more than Little's law, running = output rate x ITL, allows: twice what earns the mark."""
PREFILL_SHARE = 0.6
"""Of the sequences that run, so many at most are being prefilled."""
LEAST_RATIO, MOST_RATIO = 1 - PREFILL_SHARE, 1 + LITTLE_TOLERANCE
"""Between them Little's law holds."""
THOUSAND_FOLD = 300.0
"""A disagreement this large is a unit, not a measurement."""
THOUSANDTH = 1 / THOUSAND_FOLD
SLACK = 1.02
"""Averages from gauges may exceed what is possible by this factor."""


class Unanswerable(StrEnum):
    """Why a question has no answer."""

    INVALID = "Invalid"
    """It contradicts itself."""
    UNTRUSTED = "Untrusted"
    """Nothing is left to choose among: what was measured is in doubt."""
    WITHOUT_WATTS = "WithoutWatts"
    """The least energy is wanted, and none was measured."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One contradiction."""

    field: str
    """Where it stands: in the point, as in `itlMs.meanMs`; in the question, as in `points[2].itlMs.meanMs`."""
    because: str
    """What contradicts what."""
    remedy: str
    """What to do."""
    kind: Unanswerable = Unanswerable.INVALID
    """Contradiction, or doubt."""

    def __str__(self) -> str:
        return f"{self.field}: {self.because}: {self.remedy}"


@dataclass(frozen=True, slots=True)
class Rule:
    """A question that every point is asked, and what is said of a point that it finds broken."""

    broken: Callable[[Point], bool]
    say: Callable[[Point], Problem]


class AdviceError(ValueError):
    """A question that has no answer. Its message has one line for each problem."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems

    @property
    def kind(self) -> Unanswerable:
        """The one kind of all, or a contradiction."""
        kinds = {problem.kind for problem in self.problems}
        return next(iter(kinds)) if len(kinds) == 1 else Unanswerable.INVALID


def check_question(document: MeasurementDocument, slo: Slo, settings: Settings) -> tuple[Problem, ...]:
    """Everything that keeps `advise` from answering, worst first. Empty: ask."""
    doubts = check_trust(document.points, settings)
    return (*check_settings(settings), *check_document(document), *doubts, *check_slo(document, slo))


def check_settings(settings: Settings) -> tuple[Problem, ...]:
    """Settings outside their ranges, or against each other."""
    s = settings
    asked = s.engines_per_gpu
    ranges = (
        *((camel(name), getattr(s, name), knob.admit(getattr(s, name)), knob.wanted) for name, knob in KNOBS.items()),
        ("maxEnginesPerGpu", s.max_engines_per_gpu, _at_least_one(s.max_engines_per_gpu), "at least 1"),
        ("enginesPerGpu", asked, _at_least_one(asked), "at least 1"),
        ("concurrency", s.concurrency, _at_least_one(s.concurrency), "at least 1 request in flight"),
        ("requestsPerSecond", s.requests_per_second, _positive(s.requests_per_second), "above 0"),
        ("gpuMemoryBytes", s.gpu_memory_bytes, _at_least_one(s.gpu_memory_bytes), "the GPU's memory in bytes"),
    )
    problems = [
        Problem(field, f"{value} is out of range", f"give {remedy}") for field, value, ok, remedy in ranges if not ok
    ]
    if asked and asked > 1 and not allows_packs(s.mode):
        problems.append(
            Problem(
                "enginesPerGpu",
                f"{asked} engines cannot share a GPU with mode {s.mode}",
                f"give mode {' or '.join(one.mode for one in PACKED)}, or 1",
            )
        )
    if asked and asked > s.plugin_max_replicas:
        problems.append(
            Problem(
                "enginesPerGpu",
                f"the device plugin makes at most {s.plugin_max_replicas} slices of this GPU",
                "give fewer",
            )
        )
    if s.concurrency is not None and s.requests_per_second is not None:
        problems.append(Problem("requestsPerSecond", "concurrency is given too", "give one of them"))
    return tuple(problems)


def check_slo(document: MeasurementDocument, slo: Slo) -> tuple[Problem, ...]:
    """Limits that nothing can be held against."""
    problems = [
        Problem(f"slo.{name}", f"{limit} is not above 0", "give a limit above 0, or leave it out")
        for name, limit in _limits(slo)
        if not _positive(limit)
    ]
    if unresolved := resolve(slo, document.points).unresolved:
        # NB: what was measured and is in doubt contradicts nothing.
        measured = any(is_full_single(p) and p.batch_size == REFERENCE_BATCH_SIZE for p in document.points)
        kind = Unanswerable.UNTRUSTED if measured else Unanswerable.INVALID
        remedy = "or give the limit in milliseconds (slo.itl.maxMs)"
        problems.append(Problem("slo.itl.maxFactor", unresolved, remedy, kind))
    return tuple(problems)


def _limits(slo: Slo) -> Iterator[tuple[str, float | None]]:
    """Every limit under its name in the API, of those that there is a way to set."""
    for metric in METRICS:
        yield f"{metric.key}.maxMs", metric.limit_ms(slo)
        if metric.factor is not None:
            yield f"{metric.key}.maxFactor", getattr(slo, metric.factor.field)


def check_document(document: MeasurementDocument) -> tuple[Problem, ...]:
    """Points and ledger that contradict themselves or each other."""
    points = document.points
    problems = [_in_point(i, rule.say(point)) for rule in RULES for i, point in enumerate(points) if rule.broken(point)]
    singles = [p for p in points if is_full_single(p)]
    if not any(p.batch_size == 1 for p in singles):
        problems.append(
            Problem("points", "no single engine was measured at B=1, so no efficiency can be judged", "measure B=1 too")
        )
    if document.ledger:
        problems += _ledger_problems(document.ledger, document.gpu.memory_bytes)
    return tuple(problems)


def check_trust(points: Sequence[Point], settings: Settings) -> tuple[Problem, ...]:
    """Points of which none is left to choose among, or only B = 1, which would win for want of others.

    A pack of the user's own size needs no single engine to be better than.
    """
    singles = [p for p in points if is_full_single(p)]
    ordered = [p for p in points if p.replicas > 1 and p.replicas == settings.engines_per_gpu]
    nothing = bool(singles) and not any(map(is_sound, singles))
    if any(map(is_sound, ordered)) or not (nothing or only_one_sequence_is_sound(points)):
        return ()
    doubted = [p for p in singles if nothing or p.batch_size > 1]
    preempted = (doubt_by(Mark.PREEMPTED),) if nothing and not all(preemption(p).passed for p in doubted) else ()
    reasons = (*preempted, *doubts_of(doubted))
    which = "every single-engine point" if nothing else "every single-engine point above B=1"
    because = f"{which} is in doubt: {', '.join(doubt.says for doubt in reasons)}"
    remedy = ", and ".join(doubt.remedy for doubt in reasons)
    return (Problem("points", because, remedy, Unanswerable.UNTRUSTED),)


def _in_point(index: int, found: Problem) -> Problem:
    return replace(found, field=f"points[{index}].{found.field}")


def _ledger_problems(ledger: Ledger, gpu_bytes: int) -> Iterator[Problem]:
    device = ledger.device_bytes
    if device <= 0:
        yield Problem("ledger.deviceBytes", "it is 0", "give the GPU's memory in bytes")
    elif ledger.fixed_bytes + ledger.kv_pool_bytes > device * 1.02:
        yield Problem(
            "ledger.kvPoolBytes",
            f"weights, activations, graphs, context and KV pool are {ledger.fixed_bytes + ledger.kv_pool_bytes:,} bytes on a device of {device:,}",
            "check the units: every line is in bytes",
        )
    elif not device / 2 < gpu_bytes < device * 2:
        yield Problem(
            "gpu.memoryBytes",
            f"{gpu_bytes:,} bytes, where the ledger says {device:,}",
            "check the units: both are in bytes",
        )


def _at_least_one(value: int | None) -> bool:
    return value is None or value >= 1


def _positive(value: float | None) -> bool:
    return value is None or value > 0


def little_ratio(point: Point) -> float:
    """Sequences that throughput and ITL imply over those that were seen; 1 by Little's law, 0 for an empty point."""
    running = point.mean_running
    return point.output_tokens_per_second * point.itl_ms.mean_ms / 1000 / running if running else 0.0


def _little_fails(point: Point) -> bool:
    # NB: sequences that are being prefilled run too and emit nothing: with long prompts far more run than decode.
    ratio = little_ratio(point)
    return not LEAST_RATIO < ratio < MOST_RATIO and ratio > 0 and (_is_unit(ratio) or point.is_trusted)


def _is_unit(ratio: float) -> bool:
    return not THOUSANDTH < ratio < THOUSAND_FOLD


def _little(point: Point) -> Problem:
    ratio = little_ratio(point)
    if _is_unit(ratio):
        return Problem(
            "itlMs.meanMs",
            f"Little's law is off by a factor of {max(ratio, 1 / ratio):,.0f}",
            "a unit is wrong: give milliseconds and tokens per second",
        )
    return Problem(
        "outputTokensPerSecond",
        f"Little's law fails: {point.output_tokens_per_second:g} tokens/s at {point.itl_ms.mean_ms:g} ms need "
        f"{ratio * point.mean_running:.1f} running sequences, {point.mean_running:g} were seen",
        "measure the point again, or mark it LittlesLaw",
    )


def _is_torn(metric: Metric, point: Point) -> bool:
    latency = metric.of(point)
    if latency is None or (tail := latency.p99_ms or latency.p90_ms or latency.p50_ms) is None:
        return False
    return _two_units(latency.mean_ms, tail) or _percentiles_fall(latency)


def _two_units(mean_ms: float, tail_ms: float) -> bool:
    return not mean_ms * THOUSANDTH < tail_ms < mean_ms * THOUSAND_FOLD


def _percentiles_fall(latency: Latency) -> bool:
    p99 = math.inf if latency.p99_ms is None else latency.p99_ms
    p90 = p99 if latency.p90_ms is None else latency.p90_ms
    return (latency.p50_ms or 0) > p90 or p90 > p99


def _torn(metric: Metric, point: Point) -> Problem:
    latency, field = metric.of(point), camel(metric.field)
    if latency and _percentiles_fall(latency):
        return Problem(field, "its percentiles fall", _COLUMNS)
    return Problem(field, "its mean and its percentiles are not of one unit", "give both in milliseconds")


def _empty(field: str) -> Callable[[Point], Problem]:
    return lambda _: Problem(field, "it is 0", "remove the point or measure it again")


_COLUMNS = "check which column is which"

RULES = (
    Rule(lambda p: p.batch_size <= 0, _empty("batchSize")),
    Rule(lambda p: p.replicas <= 0, _empty("replicas")),
    Rule(lambda p: p.throughput_tokens_per_second <= 0, _empty("throughputTokensPerSecond")),
    Rule(lambda p: p.output_tokens_per_second <= 0, _empty("outputTokensPerSecond")),
    Rule(lambda p: p.itl_ms.mean_ms <= 0, _empty("itlMs.meanMs")),
    Rule(lambda p: p.mean_running <= 0, _empty("meanRunning")),
    Rule(
        lambda p: (p.replicas > 1) != sharing_of(p.sharing_mode).allows_packs,
        lambda p: Problem(
            "sharingMode",
            f"{p.sharing_mode} with {several(p.replicas, 'engine')}",
            f"{EXCLUSIVE.mode} is for exactly one engine; correct either",
        ),
    ),
    Rule(
        lambda p: p.output_tokens_per_second > p.throughput_tokens_per_second,
        lambda p: Problem(
            "outputTokensPerSecond",
            f"{p.output_tokens_per_second:g} is more than throughput, {p.throughput_tokens_per_second:g}, which counts input too",
            _COLUMNS,
        ),
    ),
    Rule(
        lambda p: p.kv_peak_fraction > SLACK,
        lambda p: Problem(
            "kvPeakFraction",
            f"{p.kv_peak_fraction:g} is more than the whole pool",
            "give a fraction of 1, not per cent",
        ),
    ),
    Rule(
        lambda p: p.mean_running > p.batch_size * p.replicas * SLACK,
        lambda p: Problem(
            "meanRunning",
            f"{p.mean_running:g} sequences ran where {p.replicas} x {p.batch_size} is the most",
            "check batchSize and replicas",
        ),
    ),
    *(Rule(partial(_is_torn, metric), partial(_torn, metric)) for metric in METRICS),
    Rule(_little_fails, _little),
)
