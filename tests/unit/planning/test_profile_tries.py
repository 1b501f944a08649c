"""When a profile is tried again: never without end, never above its budget, at once when a person asks."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from slm_operator.planning.actions import Delete
from slm_operator.planning.profile.tries import LONGEST_PAUSE, is_to_be_measured
from slm_operator.watch.records import Cause

from tests import builders as build

from .lives import Life, measured, out_of_memory, preempted, waiting

if TYPE_CHECKING:
    from collections.abc import Callable

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


def due(life: Life) -> datetime:
    return datetime.fromisoformat(life.tries["nextTryTime"])


def test_profile_waits_for_a_gpu_without_limit() -> None:
    life = waiting()
    for _ in range(20):
        life.later(hours=12).until_it_rests()
        assert life.says[:2] == ("Pending", "WaitingForGPU")
        assert not life.is_stalled
    assert life.begun == 1
    measured(life)


def test_no_deadline_counts_before_a_node_takes_the_pod() -> None:
    spec = waiting().manifest["spec"]
    assert "activeDeadlineSeconds" not in spec
    assert spec["template"]["spec"]["activeDeadlineSeconds"] == (15 + 30) * 60


def test_status_says_how_long_its_pod_may_be_on_a_node() -> None:
    life = Life()
    life.look()
    assert "for 45 minutes, images and the model's download included" in life.says[2]


def test_status_says_until_when_a_pod_may_pull_and_load() -> None:
    life = waiting()
    life.gets_a_gpu(accepted="2026-01-01T00:10:00Z", deadline_seconds=45 * 60)
    life.look()
    assert "has until 2026-01-01T00:55:00Z for its images" in life.says[2]
    life.prints(doing="B = 8")
    life.look()
    assert "has until" not in life.says[2]


def test_a_wait_says_since_when_over_restarts_and_new_jobs() -> None:
    life = waiting()
    since = life.status["waitingSince"]
    assert since == "2026-01-01T00:00:00Z"
    life.later(hours=3).changes(search={"maxGpuMinutes": 60})
    life.until_it_rests()
    assert life.begun == 2
    assert life.status["waitingSince"] == since
    assert f"It waits since {since}" in life.says[2]
    life.gets_a_gpu()
    life.look()
    assert "waitingSince" not in life.status


def test_pauses_grow_to_an_hour_and_no_further() -> None:
    life = waiting()
    pauses = []
    for _ in range(9):
        preempted(life, seconds=1)
        pauses.append((due(life) - life.now) / MINUTE)
        life.now = due(life)
        life.until_it_rests()
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert life.begun == 10
    measured(life)


def test_a_pause_says_why_how_long_and_what_to_do() -> None:
    phase, reason, message = preempted(waiting()).says
    assert (phase, reason) == ("Pending", "AwaitingRetry")
    for words in ("higher priority", "2026-01-01T00:01:00Z", "slm-operator.io/retry", "1.0 of 15 GPU minutes"):
        assert words in message


def test_paused_profile_takes_no_place_until_its_pause_ends() -> None:
    life = preempted(waiting())
    assert not is_to_be_measured(life.profile)
    life.later(minutes=1).look()
    assert is_to_be_measured(life.profile)
    assert (life.says[1], life.begun) == ("Queued", 1)


def test_a_try_that_is_counted_is_not_counted_twice() -> None:
    life = waiting()
    life.gets_a_gpu()
    life.prints(doing="B = 8", gpu_seconds=60.0)
    life.look()
    life.ends(disrupted_because=Cause("PreemptionByScheduler"))
    life.look()
    job, pod, log = life.job, life.pod, life.log
    assert job is not None, "its Job goes only when status counts it"
    for _ in range(3):  # the deletion does not show yet
        life.job, life.pod, life.log = job, pod, log
        life.look()
    assert (life.tries["count"], life.tries["gpuSeconds"]) == (1, 60)


CLOCKS = {"an hour": -HOUR, "a day": timedelta(days=-1), "a year": timedelta(days=-365), "not at all": timedelta(0)}


@pytest.mark.parametrize("back", CLOCKS.values(), ids=CLOCKS)
def test_a_clock_that_is_set_back_makes_nobody_wait_longer(back: timedelta) -> None:
    life = waiting()
    for _ in range(4):
        preempted(life, seconds=1)
        life.now = due(life)
        life.until_it_rests()
    preempted(life, seconds=1)
    life.now += back
    life.until_it_rests()
    assert due(life) - life.now <= 16 * MINUTE <= LONGEST_PAUSE
    assert f"again at {life.tries['nextTryTime']}" in life.says[2]
    life.later(minutes=16).until_it_rests()
    assert life.begun == 6


@pytest.mark.parametrize("forged", ["yesterday", "2026-01-01T00:00:00", ""])
def test_a_time_that_cannot_be_read_is_no_reason_to_wait(forged: str) -> None:
    life = preempted(waiting())
    tries = life.tries | {"nextTryTime": forged, "lastTryTime": forged}
    life.profile = replace(life.profile, status=life.status | {"tries": tries})
    life.until_it_rests()
    assert life.begun == 2


ASKED: dict[str, Callable[[Life], None]] = {
    "its budget changes": lambda life: life.changes(search={"maxGpuMinutes": 60}),
    "its nodes change": lambda life: life.changes(gpu={"nodeSelector": {"pool": "b"}}),
    "its pod template changes": lambda life: life.changes(
        podTemplate={"spec": {"containers": [{"name": "engine", "resources": {"limits": {"memory": "64Gi"}}}]}}
    ),
    "a person asks for it": lambda life: life.is_annotated("1"),
}


@pytest.mark.parametrize("asks", ASKED.values(), ids=ASKED)
@pytest.mark.parametrize("ended", [lambda: preempted(waiting()), out_of_memory], ids=["by the cluster", "by the model"])
def test_profile_is_retried_at_once_when(ended: Callable[[], Life], asks: Callable[[Life], None]) -> None:
    life = ended()
    asks(life)
    life.until_it_rests()
    assert (life.begun, life.says[0]) == (2, "Pending")
    assert not life.is_stalled
    preempted(life)
    assert due(life) - life.now == MINUTE, "pauses begin anew"
    assert life.begun == 2


def test_each_value_of_the_annotation_asks_once() -> None:
    life = out_of_memory()
    for value, begun in (("1", 2), ("1", 2), (None, 2), ("1", 2), ("2", 3)):
        life.is_annotated(value)
        life.until_it_rests()
        assert life.begun == begun, value
        if life.job is not None:
            life.gets_a_gpu()
            life.ends(failed_because=Cause("Failed"), terminated=Cause("OOMKilled", exit_code=137))
            life.until_it_rests()


def test_retry_annotation_before_the_first_try_adds_none() -> None:
    life = Life()
    life.is_annotated("from git")
    life.until_it_rests()
    life.gets_a_gpu()
    life.ends(failed_because=Cause("Failed"), terminated=Cause("OOMKilled", exit_code=137))
    life.later(hours=2).until_it_rests()
    assert (life.begun, life.says[0]) == (1, "Failed")


def test_retry_annotation_on_a_missing_image_makes_a_new_pod() -> None:
    life = waiting()
    life.gets_a_gpu(phase="Pending", waiting=Cause("ImagePullBackOff", "401"))
    life.look()
    assert "slm-operator.io/retry" in life.says[2]
    life.is_annotated("the Secret is corrected")
    life.until_it_rests()
    assert (life.begun, life.tries) == (2, {})


def test_a_change_while_it_measures_is_tried_when_that_try_fails() -> None:
    life = waiting()
    life.gets_a_gpu()
    life.look()
    life.changes(search={"maxGpuMinutes": 60})
    life.look()
    assert "goes on as it was" in life.says[2]
    life.ends(failed_because=Cause("Failed"), terminated=Cause("OOMKilled", exit_code=137))
    life.until_it_rests()
    assert life.begun == 2


def test_failure_of_an_earlier_operator_waits_for_a_change() -> None:
    life = waiting()
    life.job = life.pod = None
    old = {"phase": "Failed", "conditions": [{"type": "Profiled", "status": "False", "reason": "X", "message": "m"}]}
    life.profile = replace(life.profile, status=old)
    life.later(hours=2).until_it_rests()
    assert (life.begun, life.says) == (1, ("Failed", "X", "m"))
    life.changes(search={"maxGpuMinutes": 60})
    life.until_it_rests()
    assert life.begun == 2


def test_a_job_of_an_earlier_operator_is_counted_by_its_uid() -> None:
    life = waiting()
    assert life.job is not None
    life.job = replace(life.job, request=None)
    preempted(life)
    life.later(minutes=1).until_it_rests()
    assert (life.begun, life.tries["count"]) == (2, 1)


def test_profile_deleted_while_measuring_is_left_to_collector() -> None:
    life = waiting()
    life.gets_a_gpu()
    life.look()
    life.profile = replace(life.profile, meta=replace(life.profile.meta, deleting=True))
    assert life.look().actions == ()


def test_a_stopped_profile_seeks_a_turn_before_it_begins() -> None:
    life = Life()
    life.changes(podTemplate={"spec": {"restartPolicy": "Always"}})
    life.until_it_rests()
    assert (life.is_stalled, is_to_be_measured(life.profile)) == (True, False)
    life.changes(podTemplate={"spec": {"runtimeClassName": "nvidia"}})
    life.look()
    assert (life.says[1], life.begun) == ("Queued", 0)
    life.look()
    assert life.begun == 1


def test_a_result_in_status_keeps_its_tries_and_costs_no_job() -> None:
    life = preempted(waiting())
    life.later(minutes=1).until_it_rests()
    measured(life)
    assert life.tries["lastEnding"] == "Preempted"
    assert life.profile.measurements == build.imported()
    life.is_annotated("again")
    plan = life.look()
    assert not any(isinstance(action, Delete) for action in plan.actions)
    assert life.begun == 2
