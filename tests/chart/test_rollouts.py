"""Demand from moment to moment while another advice is rolled out: the chart's rule over whole changes, with old engines
and new ones side by side. What an HPA itself does then is recorded (`make record autoscaling`)."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from tests.chart.demand import (
    PARTITIONINGS,
    TARGET,
    TOLERANCE,
    Pod,
    demand,
    of_engines,
    of_operators,
    packs,
    scraped,
    wanted,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from slm_operator.manifests.engine import Serving

    Moment = tuple[Pod, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """A rollout of pods from one batch to another. `surging`: a pod comes before one goes."""

    partitioning: Callable[[int], Serving]
    former: int
    new: int
    requests: float
    """In flight, the same at every moment."""
    pods: int
    surging: bool

    def moments(self, first: int) -> list[Moment]:
        """Pod by pod: one goes and still has requests, one starts, one is ready. Pods are numbered from `first`."""
        there = tuple(Pod(self.partitioning(self.former), number=first + at) for at in range(self.pods))
        found = [self.spread(there)]
        for at in range(self.pods):
            leaves, *stay = there
            comes = Pod(self.partitioning(self.new), None, ready=False, number=first + self.pods + at)
            going, ready = replace(leaves, going=True, ready=False), replace(comes, requests=0, ready=True)
            steps = (
                [(leaves, *stay, comes), (leaves, *stay, ready), (going, *stay, ready)]
                if self.surging
                else [(going, *stay, comes), (*stay, comes), (*stay, ready)]
            )
            there = (*stay, ready)
            found += [self.spread(moment) for moment in (*steps, there)]
        return found

    def spread(self, pods: Moment) -> Moment:
        """Evenly over the engines that take requests, but for one that goes: it has half of that, to the last moment."""
        taking = sum(pod.engines for pod in pods if pod.ready)
        leaving = sum(pod.engines for pod in pods if pod.going)
        share = self.requests / (taking + leaving / 2) if taking else 0.0
        kept = self.requests / leaving if leaving and not taking else share / 2
        return tuple(
            pod if pod.requests is None else replace(pod, requests=kept if pod.going else share) for pod in pods
        )

    def keeps(self, demanded: float) -> float:
        return demanded * TARGET


def status_replicas(pods: Moment) -> int:
    """As the Deployment's controller counts: those that go no longer."""
    return sum(pod.engines for pod in pods if not pod.going)


def said_of(tmp_path: Path, moments: Sequence[Moment], *, gone: str = "stale") -> list[float | None]:
    answered = demand(tmp_path, [scraped(pods, advised=96) for pods in moments], gone=gone)
    return [one.get("chat") for one in answered]


CHANGES = [
    Change(partitioning, former, new, requests=requests, pods=8 // Pod(partitioning(32)).engines, surging=surging)
    for partitioning in PARTITIONINGS
    for former, new, requests in ((32, 96, 192), (96, 32, 192))
    for surging in (True, False)
    # Two packs surge: the only one goes in place.
]


@pytest.mark.parametrize("gone", ["stale", "_"])
def test_replicas_stay_between_those_before_and_after(tmp_path: Path, gone: str) -> None:
    """The same 192 requests want eight engines of 32 and three of 96. Nothing in between asks for more or fewer."""
    told = [change.moments(100 * at) for at, change in enumerate(CHANGES)]
    said = iter(said_of(tmp_path, [moment for moments in told for moment in moments], gone=gone))
    for change, moments in zip(CHANGES, told, strict=True):
        asked = [
            wanted(demanded, status_replicas(pods))
            for pods, demanded in zip(moments, said, strict=False)
            if demanded is not None
        ]
        ends = {32: 8, 96: 3}
        assert len(asked) == len(moments), change
        assert (asked[0], asked[-1]) == (ends[change.former], ends[change.new]), change
        assert asked == sorted(asked, reverse=change.former < change.new), change
