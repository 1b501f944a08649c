"""Whose turn it is to measure: places for profiles, shared among namespaces.

`profiling.concurrent` bounds how many profiles hold or seek a GPU at once in the cluster. A place belongs to a profile
with an unfinished Job of its own. Who waits gets a free place in this order: who has no measurements yet, whose namespace
holds fewest, who has not tried for longest, who is oldest. A profile whose pod finds no GPU keeps its place only while nobody else wants it:
nothing has been measured, so nothing is lost when its Job goes and comes again at its next turn.

Must never count what a label alone calls a profile's Job.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from slm_operator.api.conditions import moment

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from slm_operator.planning.views import ProfileView
    from slm_operator.watch.records import Key, PodRecord

TURN = timedelta(minutes=2)
"""How long a profile whose pod finds no GPU keeps a place that others wait for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A profile that is not measured yet."""

    profile: Key
    created: str
    last_try: int = 0
    """Order among all tries: 0 for none yet."""
    has_job: bool = False
    extends: bool = False
    """Whether it has measurements, and more is to be measured of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What the others leave to one profile."""

    running: int = 0
    """Places that others hold."""
    has_come: bool = True
    """Whether one of the free places is for it."""
    is_awaited: bool = False
    """Whether another profile waits, and no place is free for it."""
    bound: int | None = None
    """Places that its namespace may hold, where it holds them all."""


ALONE = Turn()
"""Of a profile that needs no place, or that nobody contends with."""


def turn_of(profile: Key, contenders: Iterable[Contender], places: int, most_of_one: int | None = None) -> Turn:
    """The turn of one of the contenders. `most_of_one`: places that one namespace may hold."""
    everybody = tuple(contenders)
    held = Counter(one.profile.namespace for one in everybody if one.has_job)
    running = sum(one.has_job and one.profile != profile for one in everybody)
    waiting = [one for one in everybody if not one.has_job]
    free = places - held.total()
    chosen: list[Key] = []

    def is_full(namespace: str) -> bool:
        return most_of_one is not None and held[namespace] >= most_of_one

    while len(chosen) < free and (may := [one for one in waiting if not is_full(one.profile.namespace)]):
        first = min(may, key=lambda one: _order(one, held))
        waiting.remove(first)
        held[first.profile.namespace] += 1
        chosen.append(first.profile)
    others_left = any(one.profile != profile and not is_full(one.profile.namespace) for one in waiting)
    return Turn(
        running=running,
        has_come=profile in chosen,
        is_awaited=others_left,
        bound=most_of_one if is_full(profile.namespace) and profile not in chosen else None,
    )


def _order(one: Contender, held: Counter[str]) -> tuple[object, ...]:
    return one.extends, held[one.profile.namespace], one.last_try, one.created, one.profile


def gives_its_place_up(view: ProfileView, now: datetime) -> bool:
    """Whether this profile's Job has had its time without a GPU, and another profile waits for the place."""
    if view.job is None or view.job.finished or view.job.meta.deleting or not view.turn.is_awaited:
        return False
    return not _may_begin(view.pod) and now - (moment(view.job.created) or now) > TURN


def _may_begin(pod: PodRecord | None) -> bool:
    """Whether the pod has a node. Without one, nobody knows when it will, nor whether it ever was meant to."""
    return pod is not None and pod.node is not None
