"""Places for profiles: nobody holds one for ever without a GPU, and no namespace keeps another waiting."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slm_operator.planning.actions import Apply, Delete
from slm_operator.planning.profile.plan import plan_profile
from slm_operator.planning.profile.turns import TURN, Contender, Turn, turn_of
from slm_operator.planning.views import ProfileView
from slm_operator.watch.records import Key

from tests import builders as build

PROFILE = build.profile(build.deployment())
JOB = build.job(PROFILE)
AWAITED = Turn(running=1, has_come=False, is_awaited=True)
LATER = build.NOW + TURN + timedelta(seconds=1)
WAITING = build.measuring(JOB, node=None, phase="Pending", unscheduled_because="0/1 nodes")


def contender(namespace: str, number: int, **more: Any) -> Contender:
    return Contender(profile=Key(namespace, f"p{number}"), created=f"2026-01-01T00:00:{number:02}Z", **more)


def chosen(contenders: list[Contender], places: int) -> list[Key]:
    return [one.profile for one in contenders if turn_of(one.profile, contenders, places).has_come]


def test_oldest_profile_comes_first() -> None:
    assert chosen([contender("a", 2), contender("a", 1)], 1) == [Key("a", "p1")]


def test_second_place_of_a_namespace_waits_for_all_others() -> None:
    many = [contender("greedy", number) for number in range(9)]
    assert chosen([*many, contender("modest", 50)], 2) == [Key("greedy", "p0"), Key("modest", "p50")]
    assert chosen(many, 2) == [Key("greedy", "p0"), Key("greedy", "p1")]


def test_profile_that_failed_comes_after_one_not_tried() -> None:
    assert chosen([contender("a", 1, last_try=1), contender("a", 2)], 1) == [Key("a", "p2")]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.booleans()), max_size=12),
    st.integers(0, 4),
)
def test_profile_places_are_never_overdrawn_nor_left_empty(some: list[tuple[str, int, bool]], places: int) -> None:
    everybody = [
        contender(namespace, number, last_try=tried, has_job=running)
        for number, (namespace, tried, running) in enumerate(some)
    ]
    running = [one.profile for one in everybody if one.has_job]
    begin = chosen(everybody, places)
    waiting = len(everybody) - len(running)
    assert len(begin) == max(0, min(places - len(running), waiting))
    held = Counter(key.namespace for key in (*running, *begin))
    refused = {one.profile.namespace for one in everybody if not one.has_job} - {key.namespace for key in begin}
    for key in begin:
        assert all(held[key.namespace] - 1 <= held[other] for other in refused)


@pytest.mark.parametrize("pod", [WAITING, None], ids=["no GPU is free", "no pod is made"])
def test_profile_without_gpu_gives_its_place_to_waiting_ones(pod: Any) -> None:
    view = ProfileView(profile=PROFILE, job=JOB, pod=pod, turn=AWAITED)
    made = plan_profile(view, build.SETTINGS, LATER)
    assert [action.uid for action in made.actions if isinstance(action, Delete)] == [JOB.meta.uid]


KEPT = {
    "nobody waits": (ProfileView(profile=PROFILE, job=JOB, pod=WAITING, turn=Turn()), LATER),
    "it has just begun": (ProfileView(profile=PROFILE, job=JOB, pod=WAITING, turn=AWAITED), build.NOW),
    "it measures": (ProfileView(profile=PROFILE, job=JOB, pod=build.measuring(JOB), turn=AWAITED), LATER),
    "it is being pulled": (
        ProfileView(profile=PROFILE, job=JOB, pod=build.measuring(JOB, phase="Pending"), turn=AWAITED),
        LATER,
    ),
    "it is going already": (
        ProfileView(
            profile=PROFILE, job=replace(JOB, meta=replace(JOB.meta, deleting=True)), pod=WAITING, turn=AWAITED
        ),
        LATER,
    ),
}


@pytest.mark.parametrize("case", KEPT)
def test_profile_keeps_its_place_when(case: str) -> None:
    view, now = KEPT[case]
    made = plan_profile(view, build.SETTINGS, now)
    assert not any(isinstance(action, Delete | Apply) for action in made.actions)
