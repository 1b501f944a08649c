"""`spec.replicas` while nobody else sets it: what is written, when, and what is said where that is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from slm_operator.planning.actions import EmitEvent, Plan, SetReplicas
from slm_operator.planning.deployment.plan import plan_deployment
from slm_operator.planning.views import DeploymentView, Refusal

from tests import builders as build

from .test_deployment import TWO_PER_GPU, applied, blocking, measured, view


def owning(of: DeploymentView, own: int | None) -> DeploymentView:
    return replace(of, deployment=replace(of.deployment, own_replicas=own))


def plan(of: DeploymentView) -> Plan:
    return plan_deployment(of, build.SETTINGS, build.NOW)


def written(of: DeploymentView) -> list[int]:
    return [action.replicas for action in plan(of).actions if isinstance(action, SetReplicas)]


BROKEN = replace(build.deployment(), spec=None, broken="spec.model: no")
CASES: dict[str, tuple[DeploymentView, list[int]]] = {
    "first sight, nothing measured: the smallest pack": (view(), [1]),
    "first sight, with advice: one full pack": (measured(TWO_PER_GPU), [2]),
    "the advice has come": (owning(measured(TWO_PER_GPU), 1), [2]),
    "the advice has changed": (owning(measured(TWO_PER_GPU), 4), [2]),
    "as it is to be": (owning(measured(TWO_PER_GPU), 2), []),
    "another profile is awaited: the former pack stays": (owning(view(), 4), []),
    "somebody else's": (measured(TWO_PER_GPU | {"replicas": 3}), []),
    "somebody else's zero": (measured(TWO_PER_GPU | {"replicas": 0}), []),
    "somebody else's, nothing measured": (view({"replicas": 3}), []),
    "a spec that cannot be read": (view(deployment=BROKEN), []),
    "a template that is refused": (
        measured(TWO_PER_GPU | {"podTemplate": {"spec": {"containers": [{"name": "engine", "image": "mine"}]}}}),
        [1],
    ),
    "it is going": (
        view(deployment=build.deployment(meta=build.meta("chat", deleting=True))),
        [],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_operators_own_replica_count_is(case: str) -> None:
    of, numbers = CASES[case]
    assert written(of) == numbers


def test_the_number_is_written_to_the_very_object_that_was_seen() -> None:
    (action,) = (one for one in plan(measured(TWO_PER_GPU)).actions if isinstance(one, SetReplicas))
    meta = measured(TWO_PER_GPU).deployment.meta
    assert (action.deployment, action.uid, action.resource_version) == (meta.key, meta.uid, meta.resource_version)
    assert "one full pack" in action.because


@pytest.mark.parametrize("own", [None, 1, 4])
def test_serving_does_not_wait_for_the_replicas_field(own: int | None) -> None:
    made = applied(plan(owning(measured(TWO_PER_GPU), own)))
    assert made["Deployment"]["spec"]["replicas"] == 2


def test_missing_right_to_scale_is_an_event_and_serving_goes_on() -> None:
    because = 'SetReplicas team/chat: User "slm" cannot patch resource "slmdeployments"'
    refused: dict[str, Any] = {"refusal": Refusal(kind="SLMDeployment", because=because)}
    everything = {"workload": build.workload("chat", replicas=2, ready=2)} | refused
    made = plan(measured(TWO_PER_GPU, **everything))
    (event,) = (one for one in made.actions if isinstance(one, EmitEvent) and one.reason == "ReplicasNotWritten")
    assert because in event.message
    assert "patch slmdeployments" in event.message
    assert event.type == "Warning"
    assert blocking(made)[2] is False
    assert "Deployment" in applied(made)
    assert written(measured(TWO_PER_GPU, **everything)) == [2], "it is tried again, for the right may come"
