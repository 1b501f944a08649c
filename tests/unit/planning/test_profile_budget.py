"""What all tries of a profile may cost together, before whom they give way, and what a deployment says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from slm_operator.planning.actions import WriteStatus
from slm_operator.planning.deployment.plan import plan_deployment
from slm_operator.planning.profile.log import read_log
from slm_operator.planning.profile.tries import is_to_be_measured
from slm_operator.settings import Profiling, Settings, Tenancy

from tests import builders as build

from .lives import Life, measured, out_of_memory, preempted, waiting

if TYPE_CHECKING:
    from collections.abc import Callable


def budget_of(life: Life) -> tuple[str, int]:
    """What the runtime is told that it may take, in minutes, and the pod's deadline."""
    pod = life.manifest["spec"]["template"]["spec"]
    args = pod["containers"][0]["args"]
    return args[args.index("--max-gpu-minutes") + 1], pod["activeDeadlineSeconds"]


def test_all_tries_together_cost_no_more_than_the_budget() -> None:
    life = waiting()
    assert budget_of(life) == ("15.0", 45 * 60)
    for spent, left in ((300.0, "10.0"), (450.0, "2.5")):
        preempted(life, seconds=spent)
        life.later(hours=1).until_it_rests()
        assert budget_of(life)[0] == left
    preempted(life, seconds=120.0)
    life.later(hours=1).until_it_rests()
    assert life.says[:2] == ("Pending", "BudgetSpent")
    assert (life.is_stalled, life.begun) == (True, 3)
    assert "14.5 of 15 GPU minutes" in life.says[2]
    assert life.status["gpuSeconds"] == 870
    life.changes(search={"maxGpuMinutes": 30})
    life.until_it_rests()
    assert (budget_of(life)[0], life.begun) == ("15.5", 4)
    measured(life)
    assert life.status["gpuSeconds"] == 870 + round(cost())


def cost() -> float:
    made = build.imported().cost
    return made.gpu_seconds if made is not None else 0.0


def test_a_budget_lowered_below_what_was_spent_says_so() -> None:
    life = preempted(waiting(), seconds=300.0)
    life.changes(search={"maxGpuMinutes": 2})
    life.later(hours=1).until_it_rests()
    assert life.says[1] == "BudgetSpent"
    assert "5.0 of 2 GPU minutes" in life.says[2]
    assert "raise spec.search.maxGpuMinutes" in life.says[2]
    assert not is_to_be_measured(life.profile), "it takes no place from others"


def test_an_administrators_bound_is_named_where_it_decides() -> None:
    life = waiting()
    life.settings = Settings(tenancy=Tenancy(max_gpu_minutes_per_profile=5))
    preempted(life, seconds=290.0)
    life.later(hours=1).until_it_rests()
    assert "raise config.tenancy.maxGpuMinutesPerProfile" in life.says[2]


def test_a_job_that_others_delete_costs_what_it_has_cost() -> None:
    life = waiting()
    life.gets_a_gpu()
    life.prints(doing="B = 8", gpu_seconds=100.0)
    life.look()
    life.job = life.pod = None
    life.until_it_rests()
    assert (life.begun, life.says[1], life.tries["gpuSeconds"]) == (1, "AwaitingRetry", 100)


def test_a_log_cannot_say_that_it_cost_a_year() -> None:
    for claim in ("1e300", "-5", '"many"', "true", "NaN"):
        log = read_log(build.printed(f'{{"event":"phase","phase":"Measuring","message":"m","gpuSeconds":{claim}}}\n'))
        assert log.gpu_seconds is None, claim


PRIORITY = Settings(profiling=Profiling(priority_class_name="profiles"))
TEMPLATE = {"spec": {"priorityClassName": "serving", "runtimeClassName": "nvidia"}}


@pytest.mark.parametrize(
    ("settings", "template", "name"),
    [
        (build.SETTINGS, {}, None),
        (build.SETTINGS, TEMPLATE, "serving"),
        (PRIORITY, {}, "profiles"),
        (PRIORITY, TEMPLATE, "profiles"),
        (PRIORITY, {"spec": {"priority": 1000, "preemptionPolicy": "PreemptLowerPriority"}}, "profiles"),
    ],
    ids=["nobody", "the template", "the administrator", "the administrator before the template", "by number"],
)
def test_profile_priority_class_comes_from_settings(
    settings: Settings, template: dict[str, Any], name: str | None
) -> None:
    life = Life(settings=settings)
    life.changes(podTemplate=template)
    life.look()
    pod = life.manifest["spec"]["template"]["spec"]
    assert pod.get("priorityClassName") == name
    assert not {"priority", "preemptionPolicy"} & pod.keys()
    assert pod.get("runtimeClassName") == template.get("spec", {}).get("runtimeClassName")


def stopped() -> Life:
    life = preempted(waiting(), seconds=880.0)
    life.later(hours=1).until_it_rests()
    return life


AWAITED: dict[str, tuple[Callable[[], Life], str, bool]] = {
    "it waits for a GPU": (waiting, "WaitingForGPU", False),
    "it was pre-empted": (lambda: preempted(waiting()), "AwaitingRetry", False),
    "its budget is spent": (stopped, "BudgetSpent", True),
    "the model needs more memory": (out_of_memory, "ProfileFailed", True),
}


@pytest.mark.parametrize(("made", "reason", "stalls"), AWAITED.values(), ids=AWAITED)
def test_a_deployment_says_the_same_of_its_profile_when(made: Callable[[], Life], reason: str, *, stalls: bool) -> None:
    life = made()
    plan = plan_deployment(build.deployment_view(build.deployment(), life.profile), build.SETTINGS, life.now)
    (write,) = (action for action in plan.actions if isinstance(action, WriteStatus))
    said = {one["type"]: one for one in write.status["conditions"]}
    assert (said["Profiled"]["reason"], said["Ready"]["reason"]) == (reason, reason)
    assert life.says[2] in said["Profiled"]["message"]
    assert ("Stalled" in said, "Reconciling" in said) == (stalls, not stalls)


def test_profile_pods_name_the_operators_pull_secrets() -> None:
    life = Life(settings=Settings(profiling=Profiling(image_pull_secrets=("registry",))))
    life.look()
    assert life.manifest["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": "registry"}]
