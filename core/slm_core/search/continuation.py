"""What a document already knows, as the findings of a search that goes on from it.

Exists so that a measurement that was cut short, or that answered another question, is not paid for twice: the points are
rebuilt as outcomes, on the engines that must have run, and the search goes on where it would stand. A point counts
against the search's bounds only where this question asks for it, which is found out by asking the search before each
point; so a document that was continued for a question is complete for that question, whoever asks again.
Assumes that the document is of this model, engine and workload: that is for whoever gives it to make sure. Must never
believe that an engine of a former session runs, nor that what is compiled is still there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from slm_core.configuration import EngineConfiguration
from slm_core.search.next_step import next_step, wanted_step
from slm_core.search.steps import (
    EngineReport,
    Findings,
    Measure,
    Measured,
    Started,
    StartEngines,
)
from slm_core.search.trial import is_too_small
from slm_core.slo import METRICS
from slm_core.slo_check import figure_ms

if TYPE_CHECKING:
    from slm_core.measurements import Ledger, MeasurementDocument, Point
    from slm_core.search.steps import Request, Step
    from slm_core.slo import Slo

SAME_POOL_FRACTION = 0.05
"""A pool that differs by more from the sweep's is one of its own: two starts of one engine find nearly the same memory."""
SAME_MEMORY_FRACTION = 0.02
"""GPUs of one product whose memory differs by no more are of the same kind: ECC and drivers take a little."""
_PLENTY_SECONDS = 1e12


def step_after(document: MeasurementDocument, request: Request) -> Step:
    """What the search would do next for this question, whatever it costs. Done: the document answers it."""
    return next_step(replace(request, max_gpu_seconds=_PLENTY_SECONDS), findings_of(document, request))


def on_its_device(document: MeasurementDocument, product: str, memory_bytes: int | None) -> bool:
    """Whether the document was measured on a GPU of this kind. `memory_bytes`: None or 0 where it is not known."""
    measured = document.gpu
    if measured.product != product:
        return False
    if not memory_bytes or not measured.memory_bytes:
        return True
    return abs(memory_bytes / measured.memory_bytes - 1) <= SAME_MEMORY_FRACTION


def findings_of(document: MeasurementDocument, request: Request) -> Findings:
    """The document's points as outcomes of a former session. Empty where they cannot be gone on from.

    That is without a ledger, and where its engines had another baseline of tokens per step: all is held against that.
    """
    ledger, points = document.ledger, document.points
    first = next((p.max_num_batched_tokens for p in points if p.replicas == 1), None)
    if ledger is None or first not in (None, request.max_num_batched_tokens):
        return Findings()
    former = _Former.of(document, ledger, request)
    findings = Findings(outcomes=(former.started(former.sweep),))
    on = former.sweep
    for point in points:
        needed = former.engines_of(point, on)
        if needed is None:
            continue
        if needed == former.sweep and on.engines_per_gpu == 1 and _is_whole(request, findings, on, point):
            needed = former.own(point, on)
        before = findings if needed == on else findings.add(former.started(needed))
        asked = _is_asked(request, findings, before, needed, point)
        if not asked and needed.kv_cache_bytes is not None and _is_silent(point, request.slo):
            continue  # NB: confirmed without the samples that this question needs, it would stand for those that have them
        findings, on = before.add(former.measured(point, needed, asked=asked)), needed
    return replace(findings, earlier=len(findings.outcomes))


def _is_asked(request: Request, findings: Findings, before: Findings, on: EngineConfiguration, point: Point) -> bool:
    """Whether the search would have taken this point next. `before`: with its engines started, where others ran."""
    if before is not findings:
        step = wanted_step(request, replace(findings, earlier=len(findings.outcomes)))
        wanted = step.configuration if isinstance(step, StartEngines) else None
        if wanted is None or not wanted.is_like(on) or (wanted.kv_cache_bytes is None) != (on.kv_cache_bytes is None):
            return False
        if wanted.kv_cache_bytes is not None and point.in_flight is None:
            return wanted.batch_size == point.batch_size
    start = max(at for at, o in enumerate(before.outcomes) if isinstance(o, Started))
    step = wanted_step(request, replace(before, earlier=start))
    taken = (point.batch_size, point.in_flight)
    return isinstance(step, Measure) and (step.batch_size, step.in_flight) == taken


def _is_whole(request: Request, findings: Findings, running: EngineConfiguration, point: Point) -> bool:
    """Whether a point that could be the sweep's was tried with all of its pool, which was too small once more.

    Nothing in the point tells the two apart, only what the search would have done.
    """
    if not is_too_small(point) or point.in_flight is not None or point.kv_pool_bytes is None:
        return False
    if running.kv_cache_bytes is not None:
        return running.kv_cache_bytes == point.kv_pool_bytes and running.batch_size == point.batch_size
    step = wanted_step(request, replace(findings, earlier=len(findings.outcomes)))
    wanted = step.configuration if isinstance(step, StartEngines) else None
    return wanted is not None and wanted.kv_cache_bytes is not None and wanted.batch_size == point.batch_size


def _is_silent(point: Point, slo: Slo) -> bool:
    """Its samples give no figure for a latency that this question limits."""
    limited = [metric for metric in METRICS if metric.is_limited(slo)]
    return any((of := m.of(point)) is None or figure_ms(of, m.statistic(slo)) is None for m in limited)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Former:
    """Rebuilds outcomes: which engines each point was measured on, and what each step will have cost."""

    ledger: Ledger
    sweep: EngineConfiguration
    """The engine of the sweep."""
    report: EngineReport
    """Of any one engine."""
    point_seconds: float

    @classmethod
    def of(cls, document: MeasurementDocument, ledger: Ledger, request: Request) -> _Former:
        """NB: a document keeps sums of what was spent, so they are spread evenly over what they were spent on."""
        points, cost = document.points, document.cost
        largest = max((p.batch_size for p in points if p.replicas == 1), default=0)
        busy = max(0.0, cost.gpu_seconds - cost.download_seconds) if cost else 0.0
        starting = min(busy, max(0.0, cost.startup_seconds - cost.download_seconds)) if cost else 0.0
        return cls(
            ledger=ledger,
            sweep=EngineConfiguration(
                batch_size=max(request.max_batch_size, largest), max_num_batched_tokens=request.max_num_batched_tokens
            ),
            report=EngineReport(
                ledger=ledger,
                max_model_len=document.model.max_model_len,
                version=document.engine.version,
                seconds=(starting / max(1, cost.engine_starts if cost else 1),),
            ),
            point_seconds=(busy - starting) / max(1, len(points)),
        )

    def engines_of(self, point: Point, running: EngineConfiguration) -> EngineConfiguration | None:
        """The engines that the point was measured on, those that ran if it may be. None: it does not say."""
        if not self._is_trial(point):
            return self.sweep
        return self.own(point, running) if point.kv_pool_bytes is not None else None

    def own(self, point: Point, running: EngineConfiguration) -> EngineConfiguration:
        """Engines with the point's KV bytes as their own."""
        own = replace(
            EngineConfiguration.of(point),
            kv_cache_bytes=point.kv_pool_bytes,
            max_num_batched_tokens=point.max_num_batched_tokens or self.sweep.max_num_batched_tokens,
        )
        same = running.is_like(own) and running.kv_cache_bytes == own.kv_cache_bytes
        return running if same and point.batch_size <= running.batch_size else own

    def _is_trial(self, point: Point) -> bool:
        """Its engines had KV bytes of their own: as packs have, and what was confirmed, or proved too small for that.

        NB: a point with KV bytes of its own is either confirmed or too small; the sweep's engine may find another pool
        the next time it is started, on a CPU half of it.
        """
        pool, budget = point.kv_pool_bytes, point.max_num_batched_tokens
        if point.replicas > 1 or point.confirmed or budget not in (None, self.sweep.max_num_batched_tokens):
            return True
        differs = pool is not None and abs(pool / max(1, self.ledger.kv_pool_bytes) - 1) > SAME_POOL_FRACTION
        return differs and is_too_small(point)

    def started(self, on: EngineConfiguration) -> Started:
        """A start of these engines, one after the other."""
        report = replace(self.report, seconds=self.report.seconds * on.engines_per_gpu)
        step = StartEngines(configuration=on, because="a former session started them")
        return Started(step=step, report=report, gpu_seconds=sum(report.seconds))

    def measured(self, point: Point, on: EngineConfiguration, *, asked: bool) -> Measured:
        """The point as an outcome."""
        step = Measure(
            batch_size=point.batch_size,
            in_flight=point.in_flight,
            max_requests=None,
            min_samples=0,
            because="a former session measured it",
        )
        return Measured(step=step, on=on, point=point, asked=asked, gpu_seconds=self.point_seconds)
