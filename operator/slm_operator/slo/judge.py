"""Whether reality still is what the advice was given for.

    windows of live metrics -> signs (per window) -> findings (with hysteresis) -> one judgement

Advice ages: lengths change, traffic thins, co-tenants arrive. Assumes windows in order of time, each with
the figures of one GPU's replicas. Hysteresis: a finding opens after several windows that show it and closes after
several that do not, so that one burst moves nothing. Must never act: it feeds `SLOMet`, and a re-profile is the
planner's decision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from slm_core.slo import METRICS, Latencies
from slm_core.slo_check import figure_ms, resolve

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slm_core.measurements import MeasurementDocument
    from slm_core.slo import Limits, Slo

    from slm_operator.advisor.advice import Advice


class Drift(StrEnum):
    """The judgement in one word, worst last."""

    FINE = "Fine"
    LOAD_TOO_THIN = "LoadTooThin"
    WORKLOAD_CHANGED = "WorkloadChanged"
    SLO_MISSED = "SloMissed"
    REPROFILE_ADVISED = "ReprofileAdvised"


class Sign(StrEnum):
    """What one window can show."""

    SLO_MISSED = "SloMissed"
    SOME_MISS_SLO = "SomeMissSlo"
    """Not of a window of all replicas: of those of some alone."""
    WORKLOAD_CHANGED = "WorkloadChanged"
    PREEMPTING = "Preempting"
    LOAD_TOO_THIN = "LoadTooThin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How much must be seen before anything is said."""

    open_after: int = 3
    """Consecutive windows that show a sign before it counts."""
    close_after: int = 5
    """Consecutive windows without it before it is over."""
    min_requests: int = 20
    """Windows with fewer finished requests show nothing, neither good nor bad."""
    length_tolerance: float = 0.25
    """Mean lengths may differ from the measured ones by this fraction."""
    slo_tolerance: float = 0.05
    """A limit may be exceeded by this fraction: the noise of a measurement."""
    reprofile_after_seconds: float = 1800.0
    """What stays open for so long calls for a new profile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """What the engines' histograms tell of a percentile, in milliseconds: it is above the first and at most the second."""

    least_ms: float = 0.0
    most_ms: float = math.inf
    lacks: str = ""
    """Why they tell nothing, as a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window(Latencies):
    """Live metrics of the replicas of one GPU over a stretch of time."""

    ends_at_seconds: float
    """End, on the caller's clock."""
    requests: int
    """Requests that finished."""
    preemptions: int = 0
    """Preemptions."""
    input_tokens_mean: float
    """Mean prompt length."""
    output_tokens_mean: float
    """Mean output length."""
    in_flight_mean: float
    """Requests running and waiting, averaged."""
    tails: Mapping[str, Tail] = field(default_factory=dict)
    """By key of the metric, where a percentile of it is limited."""
    restarted: int = 0
    """Replicas whose counters began anew inside it: they are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The figures that the advice predicted, and the workload that it holds for."""

    limits: Limits
    input_tokens_mean: float
    output_tokens_mean: float
    pays_from_in_flight: int | None
    """Absent for one engine per GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A sign that lasted."""

    sign: Sign
    since_seconds: float
    """End of the first window that showed it."""
    because: str
    """What was seen last, against what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What is to be thought of the advice now."""

    drift: Drift
    """The worst."""
    findings: tuple[Finding, ...] = ()
    """Everything that is open."""

    @property
    def slo_met(self) -> bool:
        """For the condition SLOMet."""
        return not any(f.sign in (Sign.SLO_MISSED, Sign.SOME_MISS_SLO) for f in self.findings)

    @property
    def because(self) -> str:
        """All findings as one sentence."""
        return "; ".join(f.because for f in self.findings) or "latency, lengths and load are those that were measured"


DRIFT_OF = {
    Sign.SLO_MISSED: Drift.SLO_MISSED,
    Sign.SOME_MISS_SLO: Drift.SLO_MISSED,
    Sign.PREEMPTING: Drift.WORKLOAD_CHANGED,
    Sign.WORKLOAD_CHANGED: Drift.WORKLOAD_CHANGED,
    Sign.LOAD_TOO_THIN: Drift.LOAD_TOO_THIN,
}
MOST_NAMED = 3
"""Replicas that a sentence names."""
REPROFILE_HELPS = (Sign.SLO_MISSED, Sign.PREEMPTING, Sign.WORKLOAD_CHANGED)


def expect(document: MeasurementDocument, slo: Slo, advice: Advice) -> Expected:
    """What to hold live metrics against."""
    return Expected(
        limits=resolve(slo, document.points),
        input_tokens_mean=document.workload.input_tokens_mean,
        output_tokens_mean=document.workload.output_tokens_mean,
        pays_from_in_flight=advice.pays_from_in_flight if advice.configuration.engines_per_gpu > 1 else None,
    )


def judge(expected: Expected, windows: Sequence[Window], previous: Judgement | None, patience: Patience) -> Judgement:
    """Judge the latest windows, oldest first. `previous` is the last judgement, for what is open already."""
    telling = [w for w in windows if w.requests >= patience.min_requests]
    shown = [_signs(expected, w, patience) for w in telling]
    open_before = {f.sign: f for f in previous.findings} if previous else {}
    findings = []
    for sign in Sign:
        if sign in open_before:
            finding = _still_open(open_before[sign], shown, patience)
        else:
            finding = _opened(sign, telling, shown, patience)
        if finding:
            findings.append(finding)
    return Judgement(drift=_worst(findings, windows, patience), findings=tuple(findings))


def _still_open(before: Finding, shown: Sequence[dict[Sign, str]], patience: Patience) -> Finding | None:
    recent = shown[-patience.close_after :]
    if len(recent) == patience.close_after and all(before.sign not in signs for signs in recent):
        return None
    last = next((signs[before.sign] for signs in reversed(recent) if before.sign in signs), before.because)
    return Finding(sign=before.sign, since_seconds=before.since_seconds, because=last)


def _opened(
    sign: Sign, telling: Sequence[Window], shown: Sequence[dict[Sign, str]], patience: Patience
) -> Finding | None:
    recent = shown[-patience.open_after :]
    if len(recent) < patience.open_after or any(sign not in signs for signs in recent):
        return None
    return Finding(sign=sign, since_seconds=telling[-patience.open_after].ends_at_seconds, because=recent[-1][sign])


def _worst(findings: Sequence[Finding], windows: Sequence[Window], patience: Patience) -> Drift:
    if not findings:
        return Drift.FINE
    now = windows[-1].ends_at_seconds if windows else 0.0
    if any(f.sign in REPROFILE_HELPS and now - f.since_seconds >= patience.reprofile_after_seconds for f in findings):
        return Drift.REPROFILE_ADVISED
    return max((DRIFT_OF[f.sign] for f in findings), key=list(Drift).index)


def _signs(expected: Expected, window: Window, patience: Patience) -> dict[Sign, str]:
    """What one window shows, in words."""
    found = {
        Sign.SLO_MISSED: _slo_miss(expected.limits, window, patience.slo_tolerance),
        Sign.WORKLOAD_CHANGED: _length_change(expected, window, patience.length_tolerance),
        Sign.PREEMPTING: f"{window.preemptions} preemptions: the KV cache is too small for these lengths"
        if window.preemptions
        else None,
        Sign.LOAD_TOO_THIN: _thin(expected, window),
    }
    return {sign: because for sign, because in found.items() if because}


def with_some(judgement: Judgement, missed: Mapping[str, Finding], replicas: int) -> Judgement:
    """The same with what replicas by themselves have shown: of `replicas` that were looked at, those by name that miss the SLO.

    NB: where all of them do, the deployment does, and it is said of that.
    """
    if not missed or len(missed) == replicas:
        return judgement
    named = [f"{name} ({finding.because})" for name, finding in sorted(missed.items())]
    more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
    some = Finding(
        sign=Sign.SOME_MISS_SLO,
        since_seconds=min(finding.since_seconds for finding in missed.values()),
        because=f"{len(named)} of {replicas} replicas miss the SLO by themselves: {', '.join(named[:MOST_NAMED])}{more}",
    )
    worst = max(judgement.drift, DRIFT_OF[some.sign], key=list(Drift).index)
    return Judgement(drift=worst, findings=(some, *judgement.findings))


def untold(limits: Limits, window: Window) -> dict[str, str]:
    """Which limited percentiles a window cannot judge, by key of the metric, and why, in a sentence."""
    found = {}
    for metric in METRICS:
        limit_ms, tail = metric.limit_ms(limits), window.tails.get(metric.key)
        if limit_ms is None or tail is None or tail.most_ms <= limit_ms or tail.least_ms >= limit_ms:
            continue
        around = f"its bounds there are {tail.least_ms:g} and {tail.most_ms:g} ms, and the limit lies between"
        what = f"{metric.statistic(limits).lower()} {metric.name}"
        found[metric.key] = (
            f"{what} cannot be read off the engines' histogram, and its mean is judged: {tail.lacks or around}"
        )
    return found


def _slo_miss(limits: Limits, window: Window, tolerance: float) -> str | None:
    """The statistic that was asked where the window supports it, else the mean."""
    for metric in METRICS:
        limit_ms, latency = metric.limit_ms(limits), metric.of(window)
        if limit_ms is None or latency is None:
            continue
        statistic, tail = metric.statistic(limits), window.tails.get(metric.key)
        if tail is not None and tail.least_ms >= limit_ms * (1 + tolerance):
            return f"{statistic.lower()} {metric.name} is over {tail.least_ms:g} ms, and so over the limit of {limit_ms:.1f} ms"
        if tail is not None and tail.most_ms <= limit_ms:
            continue
        figure = figure_ms(latency, statistic)
        seen_ms, what = (latency.mean_ms, "mean") if figure is None else (figure, statistic.lower())
        if seen_ms > limit_ms * (1 + tolerance):
            return f"{what} {metric.name} is {seen_ms:.1f} ms, {seen_ms / limit_ms - 1:.0%} over the limit of {limit_ms:.1f} ms"
    return None


def _length_change(expected: Expected, window: Window, tolerance: float) -> str | None:
    pairs = (
        ("prompts", window.input_tokens_mean, expected.input_tokens_mean),
        ("outputs", window.output_tokens_mean, expected.output_tokens_mean),
    )
    for what, seen, measured in pairs:
        if abs(seen - measured) > tolerance * measured:
            return f"{what} have {seen:.0f} tokens on average, {measured:.0f} were measured"
    return None


def _thin(expected: Expected, window: Window) -> str | None:
    pays = expected.pays_from_in_flight
    if pays is None or window.in_flight_mean >= pays:
        return None
    return f"{window.in_flight_mean:.0f} requests in flight per GPU, the pack pays from about {pays}: one engine would do better"
