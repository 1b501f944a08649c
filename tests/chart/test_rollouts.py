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
    scraped,
    wanted,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from slm_operator.manifests.engine import Serving

    from tests.chart.demand import Scraped

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

    def moments_and_bounds(self, first: int) -> tuple[list[Moment], tuple[float, float]]:
        """The least and the most demand that its requests may be: all of them in the bigger batches, all in the smaller."""
        sizes = (self.requests / batch for batch in (self.former, self.new))
        least, most = sorted(sizes)
        return self.moments(first), (least * (1 - 1e-9), most * (1 + 1e-9))

    def spread(self, pods: Moment) -> Moment:
        """Evenly over the engines that take requests, but for one that goes: it has half of that, to the last moment."""
        taking = sum(pod.engines for pod in pods if pod.ready)
        leaving = sum(pod.engines for pod in pods if pod.going)
        share = self.requests / (taking + leaving / 2) if taking else 0.0
        kept = self.requests / leaving if leaving and not taking else share / 2
        return tuple(
            pod if pod.requests is None else replace(pod, requests=kept if pod.going else share) for pod in pods
        )


def status_replicas(pods: Moment) -> int:
    """As the Deployment's controller counts: those that go no longer."""
    return sum(pod.engines for pod in pods if not pod.going)


def told_by(tmp_path: Path, moments: Sequence[Scraped], *, gone: str = "stale") -> list[float | None]:
    return [one.get("chat") for one in demand(tmp_path, moments, gone=gone)]


CHANGES = [
    Change(partitioning, former, new, requests=requests, pods=8 // Pod(partitioning(32)).engines, surging=surging)
    for partitioning in PARTITIONINGS
    for former, new, requests in ((32, 96, 192), (96, 32, 192))
    for surging in (True, False)
]


@pytest.mark.parametrize("gone", ["stale", "_"])
def test_replicas_stay_between_those_before_and_after(tmp_path: Path, gone: str) -> None:
    """The same 192 requests want eight engines of 32 and three of 96. Nothing in between asks for more or fewer."""
    of_changes = [change.moments(100 * at) for at, change in enumerate(CHANGES)]
    moments = [scraped(pods, advised=96) for pods in itertools.chain(*of_changes)]
    said = iter(told_by(tmp_path, moments, gone=gone))
    for change, pods_there in zip(CHANGES, of_changes, strict=True):
        asked = [wanted(next(said) or math.nan, status_replicas(pods)) for pods in pods_there]
        ends = {32: 8, 96: 3}
        assert (asked[0], asked[-1]) == (ends[change.former], ends[change.new]), change
        assert asked == sorted(asked, reverse=change.former < change.new), change


@pytest.mark.parametrize("partitioning", PARTITIONINGS)
def test_batches_as_full_as_before_keep_the_replicas(tmp_path: Path, partitioning: Callable[[int], Serving]) -> None:
    """Three quarters of each batch, small or big, while pod after pod gets the big one."""
    pods = 8 // Pod(partitioning(32)).engines
    former, new = Pod(partitioning(32), 24), Pod(partitioning(96), 72)
    moments = [(*[new] * done, *[former] * (pods - done)) for done in range(pods + 1)]
    said = told_by(tmp_path, [scraped(moment, advised=96) for moment in moments])
    assert said == [6.0] * len(moments)
    assert wanted(6.0, 8) == 8


@pytest.mark.parametrize("seed", range(4))
def test_demand_never_leaves_the_two_batches_bounds(tmp_path: Path, seed: int) -> None:
    """Any partitioning, number of pods, batches and load; the operator's page as old as a scrape, or as new as the engines'."""
    of_changes = [any_change(random.Random(f"{seed}-{at}")).moments_and_bounds(100 * at) for at in range(12)]
    pages = []
    for moments, _ in of_changes:
        for before, pods in itertools.pairwise((moments[0], *moments)):
            seen = before if seed % 2 else pods
            pages.append(of_engines(pods) | of_operators(seen, advised=64))
    said = iter(told_by(tmp_path, pages))
    for moments, (least, most) in of_changes:
        for pods in moments:
            demanded = next(said)
            if not any(pod.ready or pod.going for pod in pods):
                assert demanded in {0, None}
                continue
            assert demanded is not None
            assert least <= demanded <= most
            asked, beyond = wanted(demanded, status_replicas(pods)), TARGET * (1 - TOLERANCE)
            assert least / (TARGET * (1 + TOLERANCE)) <= asked <= max(1, math.ceil(most / TARGET), most / beyond)


def any_change(chance: random.Random) -> Change:
    return Change(
        chance.choice(PARTITIONINGS),
        former=chance.choice((1, 8, 32, 64, 512)),
        new=chance.choice((2, 16, 48, 96, 256)),
        requests=chance.choice((0, 1, 30, 200, 1000)),
        pods=chance.randint(1, 6),
        surging=chance.random() < 0.5,
    )
