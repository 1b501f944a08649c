"""What happened between two readings of engines' metrics: one window for the judge, and the figures for people.

    scrape, scrape --> window (latencies, lengths, load, percentiles' bounds) and figures of one GPU

The load is by Little's law: a request is in flight from its arrival to its last token. Pure. Must never count an engine whose
counters began anew in between: it is left out, and the window says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slm_core.candidates import Rates
from slm_core.counters import CounterDelta, began_anew
from slm_core.histograms import together
from slm_core.measurements import Latency
from slm_core.slo import METRICS, MIN_SAMPLES, Statistic, means_between

from slm_operator.slo.judge import Tail, Window

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_core.counters import Counters
    from slm_core.histograms import Histogram
    from slm_core.slo import Limits, Metric

    from slm_operator.advisor.expectation import Expectation

QUANTILE = {Statistic.P50: 0.5, Statistic.P90: 0.9, Statistic.P99: 0.99}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrape:
    """The counters of a deployment's replicas at one moment."""

    at_seconds: float
    engines: Mapping[str, Counters]
    """By pod uid; those that did not answer are absent."""
    histograms: Mapping[str, Mapping[str, Histogram]] = field(default_factory=dict)
    """By pod uid and key of the SLO metric, as far as they are shown."""
    packs: Mapping[str, Mapping[str, Counters]] = field(default_factory=dict)
    """Of a pod that runs several engines, the counters of each, by pod uid and index: those above are their sum."""
    pods: Mapping[str, str] = field(default_factory=dict)
    """All that are ready, asked or not: names for people, by pod uid."""

    def of(self, uid: str) -> Scrape:
        """What one pod showed."""
        shown = {uid: self.histograms[uid]} if uid in self.histograms else {}
        parts = {uid: self.packs[uid]} if uid in self.packs else {}
        return Scrape(at_seconds=self.at_seconds, engines={uid: self.engines[uid]}, histograms=shown, packs=parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures(Rates):
    """What was measured in the last window, of one GPU, and what is expected of it under that load."""

    in_flight: float
    """Requests, running and waiting, averaged."""
    expected: Expectation | None = None
    """None: nothing that was measured tells it."""
    headroom: int | None = None
    """How many more requests fit under the SLO. None: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a window is read for."""

    limits: Limits
    pods_per_gpu: int
    """Pods that share a GPU: the pages that are read for it."""
    histograms: Mapping[str, str]
    """Names of the engine's histograms, by key of the metric."""


def limited_percentiles(limits: Limits) -> tuple[str, ...]:
    """Keys of the metrics of which another figure than the mean is limited."""
    asked = (metric for metric in METRICS if metric.limit_ms(limits) is not None)
    return tuple(metric.key for metric in asked if metric.statistic(limits) is not Statistic.MEAN)


def between(before: Scrape, after: Scrape, asked: Asked) -> tuple[Window, Figures] | None:
    """What happened between the two, in the engines that ran all the while. None: no request has finished in any."""
    ran = {uid: now for uid, now in after.engines.items() if not restarted(before, after, uid)}
    delta = CounterDelta.of_engines(before.engines, ran, after.at_seconds - before.at_seconds)
    if delta is None or delta.gained.finished <= 0 or delta.gained.itl_count <= 0:
        return None
    gained, gpus, means = delta.gained, delta.engines / asked.pods_per_gpu, means_between(delta)
    in_flight = (gained.ttft_sum + gained.itl_sum) / delta.seconds / gpus
    latencies: dict[str, Any] = {name: Latency(mean_ms=mean_ms) for name, mean_ms in means.items()}
    window = Window(
        ends_at_seconds=after.at_seconds,
        requests=int(gained.finished),
        **latencies,
        preemptions=int(gained.preemptions),
        input_tokens_mean=gained.prompt_tokens / gained.finished,
        output_tokens_mean=gained.output_tokens / gained.finished,
        in_flight_mean=in_flight,
        tails={
            metric.key: _tail(before, after, metric, asked)
            for metric in METRICS
            if metric.key in limited_percentiles(asked.limits)
        },
        restarted=len(before.engines.keys() & after.engines.keys()) - delta.engines,
    )
    figures = Figures(
        throughput_tokens_per_second=delta.tokens_per_second / gpus,
        output_tokens_per_second=delta.output_tokens_per_second / gpus,
        in_flight=in_flight,
        **means,
    )
    return window, figures


def restarted(before: Scrape, after: Scrape, uid: str) -> bool:
    """Whether a pod's counters began anew between the two, in any engine of it, or it was not there.

    NB: the sum of a pack hides it: what one engine has lost the others may have gained.
    """
    if uid not in before.engines or began_anew(before.engines[uid], after.engines[uid]):
        return True
    former, now = before.packs.get(uid, {}), after.packs.get(uid, {})
    return former.keys() != now.keys() or any(began_anew(former[index], one) for index, one in now.items())


def _tail(before: Scrape, after: Scrape, metric: Metric, asked: Asked) -> Tail:
    """Of all engines that show a histogram at both ends."""
    name, statistic = asked.histograms.get(metric.key), metric.statistic(asked.limits)
    shown = {
        uid: one[metric.key]
        for uid, one in after.histograms.items()
        if metric.key in one and not restarted(before, after, uid)
    }
    if not any(metric.key in one for one in after.histograms.values()):
        return Tail(lacks=f"no replica shows {name}" if name else "this engine has none")
    former = {uid: one[metric.key] for uid, one in before.histograms.items() if metric.key in one}
    gained = [one.since(former[uid]) for uid, one in shown.items() if uid in former]
    found = together(one for one in gained if one is not None)
    if found is None or found.total <= 0:
        return Tail(lacks=f"{name} began anew in every replica, or nothing was counted in it")
    if found.total < MIN_SAMPLES[statistic]:
        return Tail(lacks=f"{found.total:.0f} samples do not support it ({MIN_SAMPLES[statistic]} needed)")
    least, most = found.around(QUANTILE[statistic])
    return Tail(least_ms=1000 * least, most_ms=1000 * most)
