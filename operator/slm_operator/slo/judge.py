"""Whether reality still is what the advice was given for.

    windows of live metrics -> signs (per window) -> findings (with hysteresis) -> one judgement

Advice ages: lengths change, traffic thins, co-tenants arrive. Assumes windows in order of time, each with
the figures of one GPU's replicas. Hysteresis: a finding opens after several windows that show it and closes after
several that do not, so that one burst moves nothing. Must never act: it feeds `SLOMet`, and a re-profile is the
planner's decision.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from slm_core.slo import METRICS, Latencies
from slm_core.slo_check import figure_ms, resolve

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        return not any(f.sign is Sign.SLO_MISSED for f in self.findings)

    @property
    def because(self) -> str:
        """All findings as one sentence."""
        return "; ".join(f.because for f in self.findings) or "latency, lengths and load are those that were measured"


DRIFT_OF = {
    Sign.SLO_MISSED: Drift.SLO_MISSED,
    Sign.PREEMPTING: Drift.WORKLOAD_CHANGED,
    Sign.WORKLOAD_CHANGED: Drift.WORKLOAD_CHANGED,
    Sign.LOAD_TOO_THIN: Drift.LOAD_TOO_THIN,
}
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


def _slo_miss(limits: Limits, window: Window, tolerance: float) -> str | None:
    """The statistic that was asked where the window supports it, else the mean."""
    for metric in METRICS:
        limit_ms, latency = metric.limit_ms(limits), metric.of(window)
        if limit_ms is None or latency is None:
            continue
        statistic = metric.statistic(limits)
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
