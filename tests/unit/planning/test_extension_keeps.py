"""However an extension ends, and whoever asks meanwhile: no point is lost, and none is measured twice."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from slm_operator.manifests.question import lacking
from slm_operator.planning.actions import WriteStatus
from slm_operator.planning.deployment.plan import plan_deployment
from slm_operator.watch.records import Cause

from tests import builders as build

from .lives import Life, preempted
from .searched import searched
from .test_extension import FIRST, OTHERS, asked, extending, longer

if TYPE_CHECKING:
    from collections.abc import Callable

    from slm_core.measurements import MeasurementDocument

NOT_DONE: dict[str, Any] = {"complete": False, "incomplete_because": "the search is not finished"}
LOAD = OTHERS["a load"]
MORE_CPU = {"spec": {"containers": [{"name": "engine", "resources": {"limits": {"cpu": "9"}}}]}}


def measuring(gpu_seconds: float = 100.0) -> Life:
    """One point more is measured for another load."""
    life = extending(asked("b", **LOAD))
    life.gets_a_gpu()
    life.prints(doing="B = 8", point=5, of=7, gpu_seconds=gpu_seconds, partial=replace(longer(life), **NOT_DONE))
    life.look()
    return life


def last_batch(life: Life) -> int:
    assert life.profile.measurements is not None
    return life.profile.measurements.points[-1].batch_size


def test_a_newcomer_ends_no_extension_that_is_measured() -> None:
    life = measuring()
    life.asked = (asked("a", **OTHERS["a tighter SLO"]), *life.asked)
    life.until_it_rests()
    assert (life.begun, life.status["extension"]["deployment"]) == (2, "b")
    life.succeeds(longer(life), 120.0)
    assert (life.begun, life.status["extension"]["deployment"]) == (3, "a")


def runs_out_of_memory(life: Life) -> None:
    life.ends(failed_because=Cause("Failed"), terminated=Cause("OOMKilled", exit_code=137))


def has_spent_its_budget(life: Life) -> None:
    preempted(life, 595.0)
    life.later(hours=1)


def is_asked_by_nobody(life: Life) -> None:
    life.asked = ()


def has_its_result_and_is_asked_by_nobody(life: Life) -> None:
    life.prints(document=longer(life))
    life.profile = replace(life.profile, partial=None, status={**life.status, "partial": None, "partialOf": None})
    life.asked = ()


def is_asked_something_else(life: Life) -> None:
    life.asked = (asked("b", **OTHERS["a rate"]),)
    life.look()
    life.asked = ()


@pytest.mark.parametrize(
    "ends",
    [
        runs_out_of_memory,
        has_spent_its_budget,
        is_asked_by_nobody,
        has_its_result_and_is_asked_by_nobody,
        is_asked_something_else,
    ],
)
def test_points_of_an_extension_are_kept_when_it(ends: Callable[[Life], None]) -> None:
    life = measuring()
    ends(life)
    life.until_it_rests()
    assert (last_batch(life), life.status["summary"]) == (77, "7 points")
    assert (life.says[:2], life.job) == (("Complete", "Measured"), None)
    assert not {"partial", "progress", "extension"} & life.status.keys()
    assert life.status["gpuSeconds"] >= 400, "what it took is counted"


def test_a_budget_that_is_spent_names_whose_is_to_be_raised() -> None:
    life = measuring()
    has_spent_its_budget(life)
    life.until_it_rests()
    assert life.says[2].endswith("raise spec.profiling.maxGpuMinutes of the SLMDeployment")


def test_failed_extension_names_only_what_retries_it() -> None:
    life = measuring()
    runs_out_of_memory(life)
    life.until_it_rests()
    assert "When it is corrected, it is tried again by: kubectl annotate slmp" in life.says[2]


def test_a_job_nobody_asks_for_goes_after_its_points_stand() -> None:
    life = measuring()
    life.asked = ()
    before = life.profile
    plan = life.look()
    assert life.job is not None
    assert plan.look_again_seconds is not None
    life.profile = before  # the write of status did not come through
    life.until_it_rests()
    assert (last_batch(life), life.job) == (77, None)


def test_fewer_points_take_no_points_away() -> None:
    life = preempted(measuring())
    life.later(hours=1).until_it_rests()
    life.gets_a_gpu()
    document = life.profile.measurements
    assert document is not None
    life.prints(doing="B = 1", partial=replace(document, points=document.points[:1]))
    life.look()
    assert life.profile.partial is not None
    assert life.profile.partial.points[-1].batch_size == 77
    life.succeeds(replace(document, points=document.points[:1]), 60.0)
    assert last_batch(life) == 77
    assert "lacks points that were there before" in life.says[2]


def test_partly_measured_profile_stays_so_once_nobody_asks() -> None:
    life = Life(profile=build.profile(FIRST))
    life.look()
    life.succeeds(replace(searched(FIRST), **NOT_DONE), 300.0)
    for users in ((asked(**LOAD),), ()):
        life.asked = users
        life.until_it_rests()
    assert life.says[1:] == ("MeasuredInPart", "6 points measured; ended early: the search is not finished")


def first_try_of(document: MeasurementDocument) -> Life:
    life = Life(profile=build.profile(FIRST))
    life.look()
    life.look()
    life.gets_a_gpu()
    life.prints(doing="B = 8", gpu_seconds=60.0, partial=replace(document, **NOT_DONE))
    return life


def test_points_under_a_former_template_are_not_gone_on_from() -> None:
    life = first_try_of(searched(FIRST))
    life.changes(podTemplate=MORE_CPU)
    preempted(life)
    life.later(hours=1).until_it_rests()
    assert life.begun == 2
    args = life.manifest["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--continue-from" not in args


def test_a_budget_raised_while_it_measures_keeps_the_points() -> None:
    life = first_try_of(searched(FIRST))
    assert life.profile.spec is not None
    life.changes(search=life.profile.spec.search.given() | {"maxGpuMinutes": 30})
    preempted(life)
    life.later(hours=1).until_it_rests()
    assert "--continue-from" in life.manifest["spec"]["template"]["spec"]["containers"][0]["args"]


def test_further_question_is_looked_at_after_measuring() -> None:
    life = first_try_of(searched(FIRST))
    life.prints(document=searched(FIRST))
    assert life.look().look_again_seconds is not None
    assert life.says[0] == "Complete"


ODD: dict[str, dict[str, Any]] = {
    "no throughput": {"throughput_tokens_per_second": 0.0},
    "no KV cache": {"kv_peak_fraction": 0.0},
    "no replica": {"replicas": 0},
    "no sequence": {"batch_size": 0},
}


@pytest.mark.parametrize("field", ODD.values(), ids=ODD)
@pytest.mark.parametrize("spec", OTHERS.values(), ids=OTHERS)
def test_impossible_figures_of_a_document_are_no_internal_error(spec: dict[str, Any], field: dict[str, Any]) -> None:
    document, profile = searched(FIRST), build.profile(FIRST)
    assert profile.spec is not None
    for at, point in enumerate(document.points):
        points = (*document.points[:at], replace(point, **field), *document.points[at + 1 :])
        lacking(asked(**spec).question, profile.spec, replace(document, points=points))


def test_a_library_says_nothing_of_its_own_namespace() -> None:
    life = measuring()
    here, record = life.profile.meta, build.deployment("other", spec=LOAD)
    moved = replace(life.profile, meta=replace(here, key=here.key._replace(namespace="library")))
    (write,) = (
        one
        for one in plan_deployment(build.deployment_view(record, moved), build.SETTINGS, build.NOW).actions
        if isinstance(one, WriteStatus)
    )
    (said,) = (one for one in write.status["conditions"] if one["type"] == "Profiled")
    title = f"SLMProfile {here.key.name} of library namespace library"
    assert (said["status"], said["reason"]) == ("True", "Measured")
    assert said["message"] == f"{title}: 6 points measured"
