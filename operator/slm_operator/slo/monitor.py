"""Whether live replicas keep what the advice promised, from sweeps over their metrics.

    sweep, sweep --> window (of enough requests) --> judgement (advisor.drift) --> what status says

A sweep is one reading of all replicas of a deployment. Windows are closed when enough requests have finished, so quiet
deployments are judged too, only later. What status says changes when the judgement does, not with each figure: a watch
that writes every minute would be load. Must never act, and never turn silence into a kept promise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from slm_core.counters import CounterDelta
from slm_core.measurements import Latency
from slm_core.slo import Means, means_between

from slm_operator.api.conditions import Finding
from slm_operator.api.names import Condition
from slm_operator.api.reasons import Reason
from slm_operator.slo.judge import Drift, Judgement, Patience, Sign, Window, judge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_core.candidates import Predicted
    from slm_core.counters import Counters

    from slm_operator.slo.judge import Expected

PATIENCE = Patience()
KEPT_WINDOWS = max(PATIENCE.open_after, PATIENCE.close_after)
UNREADABLE_SWEEPS = 3
"""Sweeps in a row without an answer before that is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """The counters of a deployment's replicas at one moment."""

    at_seconds: float
    engines: Mapping[str, Counters]
    """By pod uid; those that did not answer are absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What live figures are held against."""

    expected: Expected
    predicted: Predicted | None
    """What the advice predicts for one GPU at the load that it is for."""
    profile: str
    """Name of the SLMProfile that it rests on."""
    engines_per_gpu: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures(Means):
    """What was measured in the last window."""

    throughput_tokens_per_second: float
    """Input and output tokens per second on one GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What status says of the watch."""

    holds: bool | None
    reason: str
    message: str
    spec_must_change: bool = False
    """Measuring the same again would not help: the load is another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How far the watch of one deployment has come. A new promise begins a new course."""

    promise: Promise
    last: Sweep | None = None
    windows: tuple[Window, ...] = ()
    judgement: Judgement | None = None
    figures: Figures | None = None
    unreadable: int = 0
    watched: Watched | None = None


def follow(course: Course, sweep: Sweep, patience: Patience = PATIENCE) -> Course:
    """The course after one more sweep."""
    if not sweep.engines:
        return _unread(course)
    course = replace(course, unreadable=0)
    window, figures = _window(course, sweep) if course.last is not None else (None, None)
    if course.last is None or not course.last.engines.keys() & sweep.engines.keys():
        return replace(course, last=sweep, watched=course.watched or _quiet(patience))
    if window is None or window.requests < patience.min_requests:
        return replace(course, watched=course.watched or _quiet(patience))
    windows = (*course.windows, window)[-KEPT_WINDOWS:]
    judgement = judge(course.promise.expected, windows, course.judgement, patience)
    news = course.judgement is None or _verdict(judgement) != _verdict(course.judgement)
    return replace(
        course,
        last=sweep,
        windows=windows,
        judgement=judgement,
        figures=figures,
        watched=_say(course.promise, judgement, window, figures) if news or not course.watched else course.watched,
    )


def slo_finding(watched: Watched | None, former: Mapping[str, str] | None) -> Finding | None:
    """The SLOMet condition. Until an operator that just started has seen enough, it stays as it was."""
    if former is not None and former["reason"] == Reason.WAITING:
        former = None
    if watched is None or (watched.reason == Reason.NO_TRAFFIC and former is not None):
        if former is None:
            return None
        holds = {"True": True, "False": False}.get(former["status"])
        return Finding(type=Condition.SLO_MET, holds=holds, reason=former["reason"], message=former["message"])
    return Finding(type=Condition.SLO_MET, holds=watched.holds, reason=watched.reason, message=watched.message)


def _window(course: Course, sweep: Sweep) -> tuple[Window | None, Figures | None]:
    """What happened since the last sweep in the engines that ran all the while."""
    before = course.last
    assert before is not None
    delta = CounterDelta.of_engines(before.engines, sweep.engines, sweep.at_seconds - before.at_seconds)
    if delta is None or delta.gained.finished <= 0 or delta.gained.itl_count <= 0:
        return None, None
    gained, gpus, means = delta.gained, delta.engines / course.promise.engines_per_gpu, means_between(delta)
    latencies: dict[str, Any] = {name: Latency(mean_ms=mean_ms) for name, mean_ms in means.items()}
    window = Window(
        ends_at_seconds=sweep.at_seconds,
        requests=int(gained.finished),
        **latencies,
        preemptions=int(gained.preemptions),
        input_tokens_mean=gained.prompt_tokens / gained.finished,
        output_tokens_mean=gained.output_tokens / gained.finished,
        # Little's law: a request is in flight from its arrival to its last token.
        in_flight_mean=(gained.ttft_sum + gained.itl_sum) / delta.seconds / gpus,
    )
    figures = Figures(throughput_tokens_per_second=delta.tokens_per_second / gpus, **means)
    return window, figures


def _unread(course: Course) -> Course:
    course = replace(course, unreadable=course.unreadable + 1)
    if course.unreadable < UNREADABLE_SWEEPS:
        return course
    message = (
        "no replica's /metrics can be read: allow the operator's namespace to reach the replicas' port http "
        "(NetworkPolicy), or set watch.intervalSeconds to 0 to watch nothing"
    )
    watched = Watched(holds=None, reason=Reason.METRICS_UNREADABLE, message=message)
    return Course(promise=course.promise, unreadable=course.unreadable, watched=watched)


def _quiet(patience: Patience) -> Watched:
    message = (
        f"fewer than {patience.min_requests} requests have finished since the watch began: nothing can be said yet"
    )
    return Watched(holds=None, reason=Reason.NO_TRAFFIC, message=message)


def _verdict(judgement: Judgement) -> tuple[Drift, frozenset[Sign]]:
    return judgement.drift, frozenset(finding.sign for finding in judgement.findings)


def _say(promise: Promise, judgement: Judgement, window: Window, figures: Figures | None) -> Watched:
    reason = Reason.MET if judgement.drift is Drift.FINE else str(judgement.drift)
    parts = [judgement.because, _measured(promise, figures), _remedy(promise, judgement, window)]
    return Watched(
        holds=judgement.slo_met,
        reason=reason,
        message="; ".join(part for part in parts if part),
        spec_must_change=_lengths_changed(judgement),
    )


def _measured(promise: Promise, figures: Figures | None) -> str:
    if figures is None:
        return ""
    seen = (
        f"measured then: {figures.throughput_tokens_per_second:.0f} tokens/s a GPU at an ITL of {figures.itl_ms:.1f} ms"
    )
    if promise.predicted is None:
        return seen
    at = f"{promise.predicted.throughput_tokens_per_second:.0f} tokens/s at {promise.predicted.itl_ms:.1f} ms"
    return f"{seen}, predicted under the load that was advised for: {at}"


def _remedy(promise: Promise, judgement: Judgement, window: Window) -> str:
    if _lengths_changed(judgement):
        lengths = f"inputTokens {window.input_tokens_mean:.0f} and outputTokens {window.output_tokens_mean:.0f}"
        return f"set spec.workload to {lengths}: a profile of that load is measured then"
    if judgement.drift is Drift.REPROFILE_ADVISED:
        return f"delete SLMProfile {promise.profile} to have it measured again"
    return ""


def _lengths_changed(judgement: Judgement) -> bool:
    return any(finding.sign is Sign.WORKLOAD_CHANGED for finding in judgement.findings)
