"""Whether live replicas meet the SLO and the advised figures, from scrapes of their metrics.

    scrape, scrape --> window (of enough requests) --> judgement (slo.judge) --> what status says

A scrape is one reading of all replicas of a deployment. Windows are closed when enough requests have finished, so quiet
deployments are judged too, only later; and each replica has windows of its own, so that one slow GPU among many is seen.
Status changes when the judgement does, or once the load has moved far, not with each figure: a monitor
that writes every minute would be load. Must never act, and never report a met SLO without requests.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from slm_operator.api.conditions import Finding
from slm_operator.api.names import Condition
from slm_operator.api.reasons import Reason
from slm_operator.slo.judge import Drift, Judgement, Patience, Sign, Window, judge, untold, with_some
from slm_operator.slo.sentence import lengths_changed, sentence
from slm_operator.slo.window import Figures, Scrape, between, restarted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_operator.slo.baseline import Baseline
    from slm_operator.slo.judge import Finding as Missed

PATIENCE = Patience()
KEPT_WINDOWS = max(PATIENCE.open_after, PATIENCE.close_after)
UNREADABLE_SCRAPES = 3
"""Scrapes in a row without an answer before that is said."""
MOVED_FRACTION, MOVED_REQUESTS = 0.25, 2.0
"""A load that has changed by more than this, and by more than so many requests, is said anew."""
SAID_SECONDS = 300.0
"""But no sooner after the last time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The result of monitoring one deployment, as status reports it."""

    holds: bool | None
    reason: str
    message: str
    spec_must_change: bool = False
    """Measuring the same again would not help: the load is another."""
    figures: Figures | None = None
    """Of the window that it was said after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaState:
    """What is known of one replica by itself."""

    last: Scrape
    windows: tuple[Window, ...] = ()
    judgement: Judgement | None = None

    @property
    def missed(self) -> Missed | None:
        """Its lasting miss of the SLO."""
        found = self.judgement.findings if self.judgement is not None else ()
        return next((finding for finding in found if finding.sign is Sign.SLO_MISSED), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorState:
    """What the SLO monitor knows of one deployment. A new baseline resets the state."""

    baseline: Baseline
    last: Scrape | None = None
    windows: tuple[Window, ...] = ()
    judgement: Judgement | None = None
    """Of all replicas together."""
    replicas: Mapping[str, ReplicaState] = field(default_factory=dict)
    """By pod uid, where there are several."""
    figures: Figures | None = None
    unreadable: int = 0
    outcome: tuple[Drift, frozenset[str]] | None = None
    """What was said last, without its figures."""
    untold: frozenset[str] = frozenset()
    """Metrics of which it could not be said then whether a percentile is kept."""
    said_at_seconds: float = 0.0
    verdict: Verdict | None = None


def follow(state: MonitorState, scrape: Scrape, patience: Patience = PATIENCE) -> MonitorState:
    """The state after one more scrape."""
    if not scrape.engines:
        return _unread(state)
    state = replace(state, unreadable=0, replicas=_replicas(state, scrape, patience))
    seen = between(state.last, scrape, state.baseline.asked()) if state.last is not None else None
    if state.last is None or all(restarted(state.last, scrape, uid) for uid in scrape.engines):
        return replace(state, last=scrape, verdict=state.verdict or _quiet(patience))  # none has run all the while
    if seen is None or seen[0].requests < patience.min_requests:
        return replace(state, verdict=state.verdict or _quiet(patience))
    window, figures = seen[0], _with_expectation(state.baseline, seen[1])
    windows = (*state.windows, window)[-KEPT_WINDOWS:]
    judgement = judge(state.baseline.expected, windows, state.judgement, patience)
    after = replace(state, last=scrape, windows=windows, judgement=judgement, figures=figures)
    missed = {scrape.pods.get(uid, uid): one.missed for uid, one in after.replicas.items() if one.missed is not None}
    return _reported(after, with_some(judgement, missed, len(after.replicas)), frozenset(missed))


def _replicas(state: MonitorState, scrape: Scrape, patience: Patience) -> Mapping[str, ReplicaState]:
    """Each replica followed by itself, in windows of its own; one alone is the deployment."""
    ready = scrape.pods.keys() | scrape.engines.keys()
    if len(ready) < 2:
        return {}
    known = {uid: one for uid, one in state.replicas.items() if uid in ready}
    return known | {uid: _replica(state.baseline, known.get(uid), scrape.of(uid), patience) for uid in scrape.engines}


def _replica(baseline: Baseline, known: ReplicaState | None, now: Scrape, patience: Patience) -> ReplicaState:
    if known is None or any(restarted(known.last, now, uid) for uid in now.engines):
        return ReplicaState(last=now)  # it is new, or was restarted
    seen = between(known.last, now, baseline.asked(pods_per_gpu=1))
    if seen is None or seen[0].requests < patience.min_requests:
        return known
    windows = (*known.windows, seen[0])[-KEPT_WINDOWS:]
    judgement = judge(baseline.expected, windows, known.judgement, patience)
    return ReplicaState(last=now, windows=windows, judgement=judgement)


def _with_expectation(baseline: Baseline, figures: Figures) -> Figures:
    if baseline.curve is None:
        return figures
    return replace(
        figures,
        expected=baseline.curve.at(figures.in_flight),
        headroom=baseline.curve.headroom(figures.in_flight, baseline.expected.limits),
    )


def _reported(state: MonitorState, judgement: Judgement, missed: frozenset[str]) -> MonitorState:
    """What is said from now on: anew once the judgement is another, or the load has moved."""
    window, figures = state.windows[-1], state.figures
    assert figures is not None
    outcome = judgement.drift, missed.union(finding.sign for finding in judgement.findings)
    said = state.verdict.figures if state.verdict is not None else None
    waited = window.ends_at_seconds - state.said_at_seconds >= SAID_SECONDS
    lacks = frozenset(untold(state.baseline.expected.limits, window))
    if outcome == state.outcome and not (waited and (_has_moved(said, figures) or lacks != state.untold)):
        return state
    verdict = Verdict(
        holds=judgement.slo_met,
        reason=Reason.MET if judgement.drift is Drift.FINE else str(judgement.drift),
        message=sentence(state.baseline, judgement, window, figures),
        spec_must_change=lengths_changed(judgement),
        figures=figures,
    )
    return replace(state, outcome=outcome, untold=lacks, said_at_seconds=window.ends_at_seconds, verdict=verdict)


def _has_moved(said: Figures | None, now: Figures) -> bool:
    if said is None:
        return True
    return abs(now.in_flight - said.in_flight) > max(MOVED_FRACTION * said.in_flight, MOVED_REQUESTS)


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
