"""What is wrong with a question before it is answered: documents, SLOs and settings that contradict themselves.

Exists because advice from figures in the wrong unit looks like any other advice. Assumes that the codec has read the
document (types, finite numbers, none negative). Must never repair: it names the field and the mend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from slm_runtime.document import SharingMode
from slm_runtime.fit import is_full_single
from slm_runtime.slo import resolve

from slm_operator.advisor.advice import ModeChoice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slm_runtime.document import Latency, Ledger, MeasurementDocument, Point
    from slm_runtime.slo import Slo

    from slm_operator.advisor.advice import Settings

LITTLE_TOLERANCE = 0.10
"""An unmarked point may miss Little's law, running = output rate x ITL, by this fraction: twice what earns the mark."""
THOUSAND_FOLD = 300.0
"""A disagreement this large is a unit, not a measurement."""


class Problem(NamedTuple):
    """One contradiction."""

    field: str
    """Where it stands, as in `points[2].itlMs.meanMs`."""
    because: str
    """What contradicts what."""
    mend: str
    """What to do."""

    def __str__(self) -> str:
        return f"{self.field}: {self.because}: {self.mend}"


class AdviceError(ValueError):
    """A question that has no answer. Its message has one line for each problem."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def check_question(document: MeasurementDocument, slo: Slo, settings: Settings) -> tuple[Problem, ...]:
    """Everything that keeps `advise` from answering, worst first. Empty: ask."""
    return (*check_settings(settings), *check_document(document), *check_slo(document, slo))


def check_settings(settings: Settings) -> tuple[Problem, ...]:
    """Settings outside their ranges, or against each other."""
    s = settings
    asked = s.replicas_per_gpu
    ranges = (
        ("minEfficiency", s.min_efficiency, 0 < s.min_efficiency < 1, "a fraction inside (0, 1), such as 0.1"),
        ("minGain", s.min_gain, 0 <= s.min_gain < 1, "a fraction inside [0, 1), such as 0.05"),
        ("maxReplicasPerGpu", s.max_replicas_per_gpu, _at_least_one(s.max_replicas_per_gpu), "at least 1"),
        ("replicasPerGpu", asked, _at_least_one(asked), "at least 1"),
        ("concurrency", s.concurrency, _at_least_one(s.concurrency), "at least 1 request in flight"),
        ("requestsPerSecond", s.requests_per_second, _positive(s.requests_per_second), "above 0"),
        ("gpuMemoryBytes", s.gpu_memory_bytes, _at_least_one(s.gpu_memory_bytes), "the GPU's memory in bytes"),
    )
    problems = [
        Problem(field, f"{value} is out of range", f"give {mend}") for field, value, ok, mend in ranges if not ok
    ]
    if asked and asked > 1 and s.mode is ModeChoice.NONE:
        problems.append(
            Problem(
                "replicasPerGpu",
                f"{asked} engines cannot share a GPU with mode None",
                "give mode MPS or TimeSlicing, or 1",
            )
        )
    if asked and asked > s.plugin_max_replicas:
        problems.append(
            Problem(
                "replicasPerGpu",
                f"the device plugin makes at most {s.plugin_max_replicas} slices of this GPU",
                "give fewer",
            )
        )
    if s.concurrency is not None and s.requests_per_second is not None:
        problems.append(Problem("requestsPerSecond", "concurrency is given too", "give one of them"))
    return tuple(problems)


def check_slo(document: MeasurementDocument, slo: Slo) -> tuple[Problem, ...]:
    """Limits that nothing can be held against."""
    given = (("itlMs", slo.itl_ms), ("itlFactor", slo.itl_factor), ("ttftMs", slo.ttft_ms))
    problems = [
        Problem(field, f"{value} is not above 0", "give a limit above 0, or leave it out")
        for field, value in given
        if not _positive(value)
    ]
    if unresolved := resolve(slo, document.points).unresolved:
        problems.append(Problem("itlFactor", unresolved, "or give the limit in milliseconds (itlMs)"))
    return tuple(problems)


def check_document(document: MeasurementDocument) -> tuple[Problem, ...]:
    """Points and ledger that contradict themselves or each other."""
    problems: list[Problem] = []
    for i, point in enumerate(document.points):
        problems += _point_problems(point, f"points[{i}]")
    singles = [p for p in document.points if is_full_single(p)]
    if not any(p.batch_size == 1 for p in singles):
        problems.append(
            Problem("points", "no single engine was measured at B=1, so no efficiency can be judged", "measure B=1 too")
        )
    if singles and not any(_trusted(p) for p in singles):
        problems.append(
            Problem(
                "points",
                "every single-engine point has preemptions, errors or marks",
                "measure again with a larger KV pool",
            )
        )
    if document.ledger:
        problems += _ledger_problems(document.ledger, document.gpu.memory_bytes)
    return tuple(problems)


def _point_problems(point: Point, at: str) -> Iterator[Problem]:
    counts = (
        ("batchSize", point.batch_size, "B is at least 1"),
        ("replicas", point.replicas, "R is at least 1"),
        ("throughputTokensPerSecond", point.throughput_tokens_per_second, "a measured point made tokens"),
        ("outputTokensPerSecond", point.output_tokens_per_second, "a measured point made tokens"),
        ("itlMs.meanMs", point.itl_ms.mean_ms, "a token takes time"),
        ("meanRunning", point.mean_running, "sequences ran"),
    )
    empty = [
        Problem(f"{at}.{field}", "it is 0", f"{why}; remove the point or measure it again")
        for field, value, why in counts
        if value <= 0
    ]
    yield from empty
    if empty:
        return
    yield from _contradictions(point, at)
    yield from _percentile_problems(point.itl_ms, f"{at}.itlMs")
    if point.ttft_ms:
        yield from _percentile_problems(point.ttft_ms, f"{at}.ttftMs")
    yield from _little_problems(point, at)


def _contradictions(point: Point, at: str) -> Iterator[Problem]:
    if (point.replicas == 1) != (point.sharing_mode is SharingMode.NONE):
        yield Problem(
            f"{at}.sharingMode",
            f"{point.sharing_mode} with {point.replicas} engine(s)",
            "None is for exactly one engine; correct either",
        )
    if point.output_tokens_per_second > point.throughput_tokens_per_second:
        yield Problem(
            f"{at}.outputTokensPerSecond",
            f"{point.output_tokens_per_second:g} exceeds throughput {point.throughput_tokens_per_second:g}, which counts input too",
            "check which column is which",
        )
    if point.kv_peak_fraction > 1.001:
        yield Problem(
            f"{at}.kvPeakFraction",
            f"{point.kv_peak_fraction:g} is more than the whole pool",
            "give a fraction of 1, not per cent",
        )
    if point.mean_running > point.batch_size * point.replicas * 1.001:
        yield Problem(
            f"{at}.meanRunning",
            f"{point.mean_running:g} sequences ran where {point.replicas} x {point.batch_size} is the most",
            "check batchSize and replicas",
        )


def _percentile_problems(latency: Latency, at: str) -> Iterator[Problem]:
    known = [p for p in (latency.p50_ms, latency.p90_ms, latency.p99_ms) if p is not None]
    if known != sorted(known):
        yield Problem(at, "its percentiles fall", "check which column is which")
    if known and not latency.mean_ms / THOUSAND_FOLD < known[-1] < latency.mean_ms * THOUSAND_FOLD:
        yield Problem(
            at,
            f"mean {latency.mean_ms:g} ms and percentile {known[-1]:g} ms are not of one unit",
            "give both in milliseconds",
        )


def _little_problems(point: Point, at: str) -> Iterator[Problem]:
    """Little's law: sequences running = output tokens per second x seconds per token (memory-gap notes: holds within 1 %)."""
    ratio = point.output_tokens_per_second * point.itl_ms.mean_ms / 1000 / point.mean_running
    if not 1 / THOUSAND_FOLD < ratio < THOUSAND_FOLD:
        yield Problem(
            f"{at}.itlMs.meanMs",
            f"Little's law is off by a factor of {max(ratio, 1 / ratio):,.0f}",
            "a unit is wrong: give milliseconds and tokens per second",
        )
    elif abs(ratio - 1) > LITTLE_TOLERANCE and _trusted(point):
        yield Problem(
            f"{at}.outputTokensPerSecond",
            f"Little's law fails: {point.output_tokens_per_second:g} tokens/s at {point.itl_ms.mean_ms:g} ms need "
            f"{ratio * point.mean_running:.1f} running sequences, {point.mean_running:g} were seen",
            "measure the point again, or mark it LittlesLaw",
        )


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


def _trusted(point: Point) -> bool:
    return not (point.preemptions or point.errors or point.marks)


def _at_least_one(value: int | None) -> bool:
    return value is None or value >= 1


def _positive(value: float | None) -> bool:
    return value is None or value > 0
