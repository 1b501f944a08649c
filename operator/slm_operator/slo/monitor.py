"""Whether live replicas meet the SLO and the advised figures, from scrapes of their metrics.

    scrape, scrape --> window (of enough requests) --> judgement (slo.judge) --> what status says

A scrape is one reading of all replicas of a deployment. Windows are closed when enough requests have finished, so quiet
deployments are judged too, only later. Status changes when the judgement does, not with each figure: a monitor
that writes every minute would be load. Must never act, and never report a met SLO without requests.
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
UNREADABLE_SCRAPES = 3
"""Scrapes in a row without an answer before that is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrape:
    """The counters of a deployment's replicas at one moment."""

    at_seconds: float
    engines: Mapping[str, Counters]
    """By pod uid; those that did not answer are absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The advised figures that live ones are compared with."""

    expected: Expected
    predicted: Predicted | None
    """What the advice predicts for one GPU at the load that it is for."""
    profile: str
    """Name of the SLMProfile that it rests on."""
    pods_per_gpu: int
    """Pods that share a GPU: the pages that are read for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures(Means):
    """What was measured in the last window."""

    throughput_tokens_per_second: float
    """Input and output tokens per second on one GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The result of monitoring one deployment, as status reports it."""

    holds: bool | None
    reason: str
    message: str
    spec_must_change: bool = False
    """Measuring the same again would not help: the load is another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorState:
    """What the SLO monitor knows of one deployment. A new baseline resets the state."""

    baseline: Baseline
    last: Scrape | None = None
    windows: tuple[Window, ...] = ()
    judgement: Judgement | None = None
    figures: Figures | None = None
    unreadable: int = 0
    verdict: Verdict | None = None


def follow(state: MonitorState, scrape: Scrape, patience: Patience = PATIENCE) -> MonitorState:
    """The state after one more scrape."""
    if not scrape.engines:
        return _unread(state)
    state = replace(state, unreadable=0)
    window, figures = _window(state, scrape) if state.last is not None else (None, None)
    if state.last is None or not state.last.engines.keys() & scrape.engines.keys():
        return replace(state, last=scrape, verdict=state.verdict or _quiet(patience))
    if window is None or window.requests < patience.min_requests:
        return replace(state, verdict=state.verdict or _quiet(patience))
    windows = (*state.windows, window)[-KEPT_WINDOWS:]
    judgement = judge(state.baseline.expected, windows, state.judgement, patience)
    news = state.judgement is None or _outcome(judgement) != _outcome(state.judgement)
    return replace(
        state,
        last=scrape,
        windows=windows,
        judgement=judgement,
        figures=figures,
        verdict=_say(state.baseline, judgement, window, figures) if news or not state.verdict else state.verdict,
    )


def slo_finding(verdict: Verdict | None, former: Mapping[str, str] | None) -> Finding | None:
    """The SLOMet condition. Until an operator that just started has seen enough, it stays as it was."""
    if former is not None and former["reason"] == Reason.WAITING:
        former = None
    if verdict is None or (verdict.reason == Reason.NO_TRAFFIC and former is not None):
        if former is None:
            return None
        holds = {"True": True, "False": False}.get(former["status"])
        return Finding(type=Condition.SLO_MET, holds=holds, reason=former["reason"], message=former["message"])
    return Finding(type=Condition.SLO_MET, holds=verdict.holds, reason=verdict.reason, message=verdict.message)


def _window(state: MonitorState, scrape: Scrape) -> tuple[Window | None, Figures | None]:
    """What happened since the last scrape in the engines that ran all the while."""
    before = state.last
    assert before is not None
    delta = CounterDelta.of_engines(before.engines, scrape.engines, scrape.at_seconds - before.at_seconds)
    if delta is None or delta.gained.finished <= 0 or delta.gained.itl_count <= 0:
        return None, None
    gained, gpus, means = delta.gained, delta.engines / state.baseline.pods_per_gpu, means_between(delta)
    latencies: dict[str, Any] = {name: Latency(mean_ms=mean_ms) for name, mean_ms in means.items()}
    window = Window(
        ends_at_seconds=scrape.at_seconds,
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


def _unread(state: MonitorState) -> MonitorState:
    state = replace(state, unreadable=state.unreadable + 1)
    if state.unreadable < UNREADABLE_SCRAPES:
        return state
    message = (
        "no replica's /metrics can be read: allow the operator's namespace to reach the replicas' port http "
        "(NetworkPolicy), or set watch.intervalSeconds to 0 to switch the SLO monitor off"
    )
    verdict = Verdict(holds=None, reason=Reason.METRICS_UNREADABLE, message=message)
    return MonitorState(baseline=state.baseline, unreadable=state.unreadable, verdict=verdict)


def _quiet(patience: Patience) -> Verdict:
    message = (
        f"fewer than {patience.min_requests} requests have finished since monitoring began: nothing can be said yet"
    )
    return Verdict(holds=None, reason=Reason.NO_TRAFFIC, message=message)


def _outcome(judgement: Judgement) -> tuple[Drift, frozenset[Sign]]:
    return judgement.drift, frozenset(finding.sign for finding in judgement.findings)


def _say(baseline: Baseline, judgement: Judgement, window: Window, figures: Figures | None) -> Verdict:
    reason = Reason.MET if judgement.drift is Drift.FINE else str(judgement.drift)
    parts = [judgement.because, _measured(baseline, figures), _remedy(baseline, judgement, window)]
    return Verdict(
        holds=judgement.slo_met,
        reason=reason,
        message="; ".join(part for part in parts if part),
        spec_must_change=_lengths_changed(judgement),
    )


def _measured(baseline: Baseline, figures: Figures | None) -> str:
    if figures is None:
        return ""
    seen = (
        f"measured then: {figures.throughput_tokens_per_second:.0f} tokens/s a GPU at an ITL of {figures.itl_ms:.1f} ms"
    )
    if baseline.predicted is None:
        return seen
    at = f"{baseline.predicted.throughput_tokens_per_second:.0f} tokens/s at {baseline.predicted.itl_ms:.1f} ms"
    return f"{seen}, predicted under the load that was advised for: {at}"


def _remedy(baseline: Baseline, judgement: Judgement, window: Window) -> str:
    if _lengths_changed(judgement):
        lengths = f"inputTokens {window.input_tokens_mean:.0f} and outputTokens {window.output_tokens_mean:.0f}"
        return f"set spec.workload to {lengths}: a profile of that load is measured then"
    if judgement.drift is Drift.REPROFILE_ADVISED:
        return f"delete SLMProfile {baseline.profile} to have it measured again"
    return ""


def _lengths_changed(judgement: Judgement) -> bool:
    return any(finding.sign is Sign.WORKLOAD_CHANGED for finding in judgement.findings)
