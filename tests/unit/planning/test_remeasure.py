"""When a model is measured again: only on drift, only when allowed, once a day, beside what is there."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from slm_operator.planning.deployment.remeasure import AT_MOST_EVERY, remeasured
from slm_operator.planning.views import DeploymentView
from slm_operator.slo.monitor import Verdict

from tests import builders as build

ASKED = Verdict(holds=False, reason="ReprofileAdvised", message="mean ITL is 14.0 ms")
MEASURED = replace(build.imported(), measured_at=build.NOW.isoformat())
LATER = build.NOW + AT_MOST_EVERY


def view(
    policy: str = "OnDrift", verdict: Verdict | None = ASKED, *, paused: bool = False, **profile: Any
) -> DeploymentView:
    record = build.deployment(spec={"profiling": {"policy": policy}, "paused": paused})
    found = build.profile(record, MEASURED, imported=False)
    return build.deployment_view(record, replace(found, **profile), slo_verdict=verdict)


def test_remeasuring_makes_a_second_profile_beside_the_first() -> None:
    of = view()
    (asked,) = remeasured(of, LATER)
    assert of.profile is not None
    assert asked.manifest["metadata"]["name"].startswith(f"{of.profile.meta.key.name}-")
    assert remeasured(of, LATER + timedelta(hours=1)) == (asked,), "and it is the same one until it was measured"


@pytest.mark.parametrize("stands", ["", "yesterday", "2026-01-01", "2026-99-99T00:00:00Z", "9" * 1000])
def test_unreadable_measured_at_counts_as_long_ago(stands: str) -> None:
    (asked,) = remeasured(view(measurements=replace(MEASURED, measured_at=stands)), LATER)
    assert asked.manifest["kind"] == "SLMProfile"


NOT = {
    "not allowed": (view("IfMissing"), LATER),
    "paused": (view(paused=True), LATER),
    "not requested": (view(verdict=replace(ASKED, reason="SloMissed")), LATER),
    "the load is another": (view(verdict=replace(ASKED, spec_must_change=True)), LATER),
    "never monitored": (view(verdict=None), LATER),
    "measured less than a day ago": (view(), LATER - timedelta(seconds=1)),
    "imported: measured elsewhere": (view(imported=True), LATER),
    "not measured at all yet": (view(measurements=None), LATER),
    "nobody knows when": (view(measurements=build.imported()), LATER),
}


@pytest.mark.parametrize("case", NOT)
def test_no_remeasuring(case: str) -> None:
    of, now = NOT[case]
    assert remeasured(of, now) == ()
