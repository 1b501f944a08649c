"""One closed-loop run as a benchmark's client saw it, and the measurement document that runs make.

What a client cannot see stays unknown: KV memory, preemptions, the GPU, and packs, for to a client all engines are one.
Assumes that the engine ran as many sequences as the client kept in flight (`--max-num-seqs` at least the concurrency).
Whole-run averages, as in `convert`. Must never take a run whose batch nobody knows: it is left out with its reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slm_core.codec import LARGEST, DocumentError, parse_document, shown, to_json
from slm_core.measurements import Engine, Gpu, Latency, Mark, MeasurementDocument, Model, Point, Workload
from slm_core.slo import MIN_SAMPLES, Statistic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

LEAST_FULL = 0.9
"""Requests in flight, on average, over the concurrency: below it a run was ramping up and down, or waiting for something."""
ONE_WORKLOAD = 0.1
"""Mean lengths of runs may differ by this fraction: more is another workload, whose throughput says nothing about this one."""
OPEN_LOOP = "it was sent at a rate, and so says nothing of full batches: run it again with a concurrency and no rate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a client says of one run. Means are over its requests that succeeded."""

    model: str
    concurrency: int
    """Requests kept in flight."""
    seconds: float
    requests: int
    errors: int
    input_tokens: float
    """Of one request, on average."""
    output_tokens: float
    in_flight: float
    """Requests in flight, on average."""
    itl_ms: Latency
    """(last token - first token) / (tokens - 1) of each request."""
    ttft_ms: Latency | None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A run that says nothing of full batches, and why."""

    at: str
    because: str


class Fields:
    """Values of a tool's file by their path, in the types that they must have. Raises DocumentError with the path."""

    def __init__(self, raw: Any, at: str) -> None:
        """`at`: where it stands, for messages."""
        self._raw, self.at = raw, at

    def get(self, *path: str | int) -> Any:
        """None where any part of the path is absent."""
        value = self._raw
        for part in path:
            if isinstance(part, int) and isinstance(value, list) and -len(value) <= part < len(value):
                value = value[part]
            elif isinstance(part, str) and isinstance(value, dict):
                value = value.get(part)
            else:
                return None
        return value

    def number(self, *path: str | int) -> float:
        """A finite number of at least 0."""
        value = self.get(*path)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST:
            raise self._wrong(path, "a finite number of at least 0", value)
        return float(value)

    def count(self, *path: str | int) -> int:
        """A whole number of at least 1."""
        value = self.number(*path)
        if value < 1 or value % 1:
            raise self._wrong(path, "a whole number of at least 1", value)
        return int(value)

    def seconds(self, *path: str | int) -> float:
        """A finite number above 0: a run that took no time has no rate."""
        value = self.number(*path)
        if not value:
            raise self._wrong(path, "a finite number above 0", value)
        return value

    def optional(self, *path: str | int) -> float | None:
        """A number; None where it is absent."""
        return None if self.get(*path) is None else self.number(*path)

    def number_or(self, default: float, *path: str | int) -> float:
        """A number; the default where it is absent."""
        found = self.optional(*path)
        return default if found is None else found

    def text_or(self, default: str, *path: str | int) -> str:
        """Some text; the default where it is absent or empty."""
        return self.text(*path) if self.get(*path) else default

    def text(self, *path: str | int) -> str:
        """Some text."""
        value = self.get(*path)
        if not isinstance(value, str) or not value:
            raise self._wrong(path, "a name", value)
        return value

    def _wrong(self, path: Sequence[str | int], wanted: str, found: object) -> DocumentError:
        where = f"{self.at}, {'.'.join(map(str, path))}"
        return DocumentError(
            f"{where}: expected {wanted}, found {shown(found)}: give the whole file of a run that succeeded"
        )


def latency(mean_ms: float, samples: int, at: Callable[[Statistic], float | None]) -> Latency:
    """A distribution with the percentiles that so many samples support."""
    p50_ms, p90_ms, p99_ms = (
        at(one) if samples >= MIN_SAMPLES[one] else None for one in (Statistic.P50, Statistic.P90, Statistic.P99)
    )
    return Latency(mean_ms=mean_ms, p50_ms=p50_ms, p90_ms=p90_ms, p99_ms=p99_ms, samples=samples)


def document(found: Iterable[Run | LeftOut], source: str) -> tuple[MeasurementDocument, tuple[LeftOut, ...]]:
    """The document of runs on one GPU, and what says nothing. Raises DocumentError when they are not of one kind.

    NB: sums and rates of figures that are in bounds may be out of them: it is read as whoever is given it would read it.
    """
    found = [_judged(one) for one in found]
    runs = sorted((one for one in found if isinstance(one, Run)), key=lambda run: run.concurrency)
    left_out = tuple(one for one in found if isinstance(one, LeftOut))
    if not runs:
        raise DocumentError(
            "\n".join(f"{one.at}: {one.because}" for one in left_out)
            or f"{source}: no run in it: run the benchmark again"
        )
    models = sorted({run.model for run in runs})
    if len(models) > 1:
        raise DocumentError(f"{source}: runs of several models ({', '.join(models)}): give those of one")
    for what, lengths in (("prompts", [r.input_tokens for r in runs]), ("answers", [r.output_tokens for r in runs])):
        if max(lengths) > min(lengths) * (1 + ONE_WORKLOAD):
            raise DocumentError(
                f"{source}: {what} of {min(lengths):.0f} to {max(lengths):.0f} tokens on average are several workloads: give runs of one"
            )
    return parse_document(to_json(_document(runs, source))), left_out


def _judged(one: Run | LeftOut) -> Run | LeftOut:
    if isinstance(one, LeftOut) or one.in_flight >= LEAST_FULL * one.concurrency:
        return one
    return LeftOut(
        f"concurrency {one.concurrency}",
        f"{one.in_flight:.1f} of {one.concurrency} requests were in flight on average, so its batches were not full: "
        "run it again with many more requests",
    )


def _document(runs: Sequence[Run], source: str) -> MeasurementDocument:
    requests = sum(run.requests for run in runs)
    return MeasurementDocument(
        model=Model(uri=runs[0].model),
        engine=Engine(version="unknown"),
        gpu=Gpu(product="unknown", memory_bytes=0),
        workload=Workload(
            source=source,
            input_tokens_mean=sum(run.input_tokens * run.requests for run in runs) / requests,
            output_tokens_mean=sum(run.output_tokens * run.requests for run in runs) / requests,
        ),
        points=tuple(map(_point, runs)),
        provenance=source,
    )


def _point(run: Run) -> Point:
    each_second = run.requests / run.seconds
    return Point(
        batch_size=run.concurrency,
        throughput_tokens_per_second=each_second * (run.input_tokens + run.output_tokens),
        output_tokens_per_second=each_second * run.output_tokens,
        itl_ms=run.itl_ms,
        ttft_ms=run.ttft_ms,
        kv_peak_fraction=0,
        errors=run.errors,
        mean_running=min(run.in_flight, run.concurrency),
        window_seconds=run.seconds,
        requests=run.requests,
        input_tokens_mean=run.input_tokens,
        output_tokens_mean=run.output_tokens,
        marks=(Mark.ERRORS,) if run.errors else (),
    )
