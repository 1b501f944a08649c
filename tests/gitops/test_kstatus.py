"""What the planners write, read by the rules of kstatus: nothing is Current before it is, and what is stuck says Failed."""

from __future__ import annotations

from typing import Any

import pytest
from slm_operator.planning.actions import Plan, WriteStatus

from tests.gitops.kstatus import kstatus
from tests.unit.planning import test_deployment as deployments
from tests.unit.planning import test_profile as profiles


def as_object(plan: Plan, generation: int = 1) -> dict[str, Any]:
    (write,) = (action for action in plan.actions if isinstance(action, WriteStatus))
    return {"metadata": {"generation": generation}, "status": dict(write.status)}


def test_a_ready_deployment_is_current() -> None:
    ready = deployments.plan(deployments.measured(deployments.TWO_PER_GPU, workload=deployments.WORKLOAD))
    assert kstatus(as_object(ready)) == "Current"


def test_a_newer_spec_is_in_progress_until_it_was_seen() -> None:
    ready = deployments.plan(deployments.measured(deployments.TWO_PER_GPU, workload=deployments.WORKLOAD))
    assert kstatus(as_object(ready, generation=2)) == "InProgress"


@pytest.mark.parametrize("case", deployments.STUCK)
def test_deployment_stalled_is_failed_and_waiting_is_not(case: str) -> None:
    view, _, _, stalls = deployments.STUCK[case]
    assert kstatus(as_object(deployments.plan(view))) == ("Failed" if stalls else "InProgress")


@pytest.mark.parametrize("case", profiles.STORIES)
def test_failed_profile_is_failed_and_waiting_one_is_not(case: str) -> None:
    view, phase, _, _ = profiles.STORIES[case]
    assert kstatus(as_object(profiles.plan(view))) == ("Failed" if phase == "Failed" else "InProgress")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, "Terminating", id="going"),
        pytest.param({"metadata": {"generation": 1}}, "Current", id="the trap: silence is Current"),
        pytest.param({"metadata": {"generation": 1}, "status": {"observedGeneration": -1}}, "InProgress", id="unseen"),
    ],
)
def test_the_rules_themselves(found: dict[str, Any], expected: str) -> None:
    assert kstatus(found) == expected
