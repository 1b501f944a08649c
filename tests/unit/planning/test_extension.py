"""A measured profile is extended by what another question lacks, and nobody who rests on it notices anything else."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from slm_core.codec import to_json
from slm_operator.manifests.question import first_question, lacking, question_of
from slm_operator.planning.deployment.advising import advise_deployment
from slm_operator.planning.deployment.evidence import thin_evidence
from slm_operator.planning.profile.tries import is_to_be_measured
from slm_operator.planning.views import Asked, DeploymentView
from slm_operator.watch.records import Cause, DeploymentRecord

from tests import builders as build

from .lives import Life
from .searched import searched

if TYPE_CHECKING:
    from slm_core.measurements import MeasurementDocument

FIRST = build.deployment("first")
OTHERS: dict[str, dict[str, Any]] = {
    "a tighter SLO": {"slo": {"itl": {"maxMs": 9.0}}},
    "a limit on the first token": {"slo": {"ttft": {"maxMs": 80, "statistic": "P99"}}},
    "a load": {"workload": {"concurrencyPerGpu": 20}},
    "a rate": {"workload": {"requestsPerSecondPerGpu": 4.0}},
    "packs of one's own number": {"sharing": {"mode": "MPS", "enginesPerGpu": 3}},
}
SAME: dict[str, dict[str, Any]] = {
    "another name": {},
    "other replicas": {"replicas": 7},
    "a log level": {"engine": {"env": [{"name": "VLLM_LOGGING_LEVEL", "value": "DEBUG"}]}},
}


def asked(name: str = "other", **spec: Any) -> Asked:
    record = build.deployment(name, spec=spec)
    assert record.spec is not None
    return Asked(deployment=name, question=question_of(record.spec))


def complete(*users: Asked, document: MeasurementDocument | None = None) -> Life:
    """A profile that was measured for the first deployment, which took 300 s."""
    life = Life(profile=build.profile(FIRST))
    life.look()
    life.succeeds(document or searched(FIRST), 300.0)
    assert life.says[:2] == ("Complete", "Measured")
    life.asked = users
    return life


def extending(*users: Asked) -> Life:
    life = complete(*users)
    life.until_it_rests()
    return life


def longer(life: Life, *, complete: bool = True) -> MeasurementDocument:
    """Its measurements and one point more."""
    document = life.profile.measurements
    assert document is not None
    more = replace(document.points[0], batch_size=77)
    because = None if complete else "the budget is spent"
    return replace(document, points=(*document.points, more), complete=complete, incomplete_because=because)


@pytest.mark.parametrize("spec", SAME.values(), ids=SAME)
def test_the_same_question_costs_no_gpu_time(spec: dict[str, Any]) -> None:
    life = complete(asked("first"), asked("second", **spec))
    life.until_it_rests()
    assert (life.begun, life.job, life.status["gpuSeconds"]) == (1, None, 300)
    assert not is_to_be_measured(life.profile)


@pytest.mark.parametrize("spec", OTHERS.values(), ids=OTHERS)
def test_another_question_is_measured_on_from_what_is_there(spec: dict[str, Any]) -> None:
    life = extending(asked("first"), asked(**spec))
    before = life.status["measurements"]
    assert life.begun == 2, life.says
    assert life.says[:2] == ("Complete", "Extending")
    assert life.status["extension"]["deployment"] == "other"
    template = life.manifest["spec"]["template"]
    pod = template["spec"]
    former = json.loads(template["metadata"]["annotations"]["slm-operator.io/former"])
    assert former == to_json(before)
    args = pod["containers"][0]["args"]
    assert args[args.index("--continue-from") + 1] == "/slm-former/document.json"
    assert args[args.index("--max-gpu-minutes") + 1] == "10.0"
    assert args[args.index("--gpu-product") + 1] == "NVIDIA-H100-80GB-HBM3"
    (mount,) = (one for one in pod["containers"][0]["volumeMounts"] if one["name"] == "slm-former")
    assert mount["mountPath"] == "/slm-former"


def test_the_points_are_added_and_the_question_is_answered() -> None:
    life = extending(asked(**OTHERS["a load"]))
    life.succeeds(longer(life), 60.0)
    assert life.says[:2] == ("Complete", "Measured")
    measured = life.profile.measurements
    assert measured is not None
    assert measured.points[-1].batch_size == 77
    assert measured.complete
    assert (life.job, life.status["gpuSeconds"], "extension" in life.status) == (None, 360, False)
    assert [one["question"] for one in life.status["answered"]] == [asked(**OTHERS["a load"]).question.digest]
    life.until_it_rests()
    assert life.begun == 2


def test_an_extension_ended_by_the_cluster_is_tried_again() -> None:
    life = extending(asked(**OTHERS["a load"]))
    life.gets_a_gpu()
    life.prints(
        doing="B = 8", gpu_seconds=100.0, partial=replace(longer(life), complete=False, incomplete_because="not done")
    )
    life.look()
    life.ends(disrupted_because=Cause("PreemptionByScheduler"), failed_because=Cause("Failed"))
    life.until_it_rests()
    assert life.says[:2] == ("Complete", "Extending")
    assert life.tries["gpuSeconds"] == 400
    assert not is_to_be_measured(life.profile), "in a pause it takes no place"
    life.later(hours=1).until_it_rests()
    assert life.begun == 3
    args = life.manifest["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args[args.index("--max-gpu-minutes") + 1] == "8.33"
    former = json.loads(life.manifest["spec"]["template"]["metadata"]["annotations"]["slm-operator.io/former"])
    assert former["points"][-1]["batchSize"] == 77
    assert former["complete"] is True, "it answers another question"


ENDINGS: dict[str, tuple[dict[str, Any], str]] = {
    "its engine failed": ({"failure_class": "EngineDied", "failure": "exit 1", "remedy": "read the log"}, "exit 1"),
}


@pytest.mark.parametrize(("printed", "said"), ENDINGS.values(), ids=ENDINGS)
def test_failed_extension_keeps_the_points_and_says_so(printed: dict[str, Any], said: str) -> None:
    life = extending(asked(**OTHERS["a load"]))
    before = life.profile.measurements
    life.gets_a_gpu()
    life.prints(gpu_seconds=60.0, **printed)
    life.ends(failed_because=Cause("Failed"), terminated=Cause("Error", exit_code=1))
    life.until_it_rests()
    assert life.says[:2] == ("Complete", "Measured")
    assert said in life.says[2]
    assert said in life.status["answered"][0]["shortfall"]
    assert (life.profile.measurements, life.begun, life.is_stalled) == (before, 2, False)
    assert life.status["gpuSeconds"] == 360
    life.is_annotated("again")
    life.until_it_rests()
    assert life.begun == 3, "a person may have it tried once more"


def test_points_of_an_extension_that_fails_are_kept() -> None:
    life = extending(asked(**OTHERS["a load"]))
    life.gets_a_gpu()
    died = {"failure_class": "EngineDied", "failure": "exit 1", "remedy": "read the log"}
    partial = replace(longer(life), complete=False, incomplete_because="not done")
    life.prints(gpu_seconds=60.0, partial=partial, **died)
    life.ends(failed_because=Cause("Failed"), terminated=Cause("Error", exit_code=1))
    life.until_it_rests()
    measured = life.profile.measurements
    assert measured is not None
    assert (measured.points[-1].batch_size, measured.complete) == (77, True)
    assert "partial" not in life.status


def test_spent_budget_is_reported_and_a_larger_one_asks_anew() -> None:
    life = complete(asked(profiling={"maxGpuMinutes": 5}, **OTHERS["a load"]))
    life.until_it_rests()
    assert (life.begun, life.says[0]) == (1, "Complete")
    assert "5.0 of 5 GPU minutes are spent" in life.status["answered"][0]["shortfall"]
    life.asked = (asked(profiling={"maxGpuMinutes": 20}, **OTHERS["a load"]),)
    life.until_it_rests()
    assert life.begun == 2


def test_points_of_another_gpu_never_take_the_place_of_these() -> None:
    life = extending(asked(**OTHERS["a load"]))
    before = life.profile.measurements
    assert before is not None
    life.succeeds(replace(longer(life), gpu=replace(before.gpu, product="NVIDIA-L4")), 60.0)
    assert life.profile.measurements == before
    assert "another kind of GPU" in life.status["answered"][0]["shortfall"]


def test_extension_nobody_asks_for_keeps_points_and_ends_job() -> None:
    life = extending(asked(**OTHERS["a load"]))
    life.gets_a_gpu()
    life.prints(
        doing="B = 8", gpu_seconds=30.0, partial=replace(longer(life), complete=False, incomplete_because="not done")
    )
    life.look()
    life.asked = ()
    life.until_it_rests()
    assert (life.job, life.says[:2], "extension" in life.status) == (None, ("Complete", "Measured"), False)
    measured = life.profile.measurements
    assert measured is not None
    assert (measured.points[-1].batch_size, measured.complete) == (77, True)
    assert "partial" not in life.status


def test_questions_are_measured_one_after_the_other() -> None:
    both = asked("one", **OTHERS["a load"]), asked("two", **OTHERS["a tighter SLO"])
    life = extending(*both)
    assert life.status["extension"]["deployment"] == "one"
    life.succeeds(longer(life), 60.0)
    assert life.status["extension"]["deployment"] == "two"
    assert life.begun == 3


def test_incomplete_measurement_is_not_repeated() -> None:
    document = replace(searched(FIRST), complete=False, incomplete_because="the budget is spent")
    life = Life(profile=build.profile(FIRST))
    life.look()
    life.succeeds(document, 890.0)
    life.asked = (asked("first"),)
    life.until_it_rests()
    assert (life.begun, life.says[1]) == (1, "MeasuredInPart")


def test_an_imported_profile_is_never_extended() -> None:
    life = Life(profile=build.profile(FIRST, searched(FIRST)), asked=(asked(**OTHERS["a load"]),))
    life.look()
    assert (life.begun, life.says[1]) == (0, "Imported")


def test_a_profile_knows_the_question_that_it_was_made_for() -> None:
    for spec in ({}, *OTHERS.values()):
        record = build.deployment(spec=spec)
        made = build.profile(record)
        assert record.spec is not None
        assert made.spec is not None
        assert first_question(made.spec).digest == question_of(record.spec).digest


def view(record: DeploymentRecord, life: Life) -> DeploymentView:
    return build.deployment_view(record, life.profile)


def test_advice_says_that_its_evidence_is_thin_until_it_is_not() -> None:
    record = build.deployment("other", spec=OTHERS["a load"])
    assert record.spec is not None
    life = complete()
    said = thin_evidence(view(record, life), record.spec)
    assert said.startswith(" The evidence is thin: SLMProfile opt-")
    assert said.endswith("it is extended when a GPU is free")
    life.asked = (asked(**OTHERS["a load"]),)
    life.until_it_rests()
    life.succeeds(longer(life, complete=False), 60.0)
    assert "the budget is spent" in thin_evidence(view(record, life), record.spec)
    life.profile = replace(
        life.profile, status=life.status | {"answered": [{"question": life.asked[0].question.digest}]}
    )
    assert thin_evidence(view(record, life), record.spec) == ""


WHY = {
    "a library": ({}, "library", "a library is extended where it is kept"),
    "by name": ({"profiling": {"profileRef": {"name": "x"}}}, "team", "spec.profiling.profileRef names"),
    "never": ({"profiling": {"policy": "Never"}}, "team", "spec.profiling.policy is Never"),
    "paused": ({"paused": True}, "team", "while spec.paused is set"),
}


@pytest.mark.parametrize(("spec", "namespace", "words"), WHY.values(), ids=WHY)
def test_thin_evidence_that_stays_so_says_why(spec: dict[str, Any], namespace: str, words: str) -> None:
    record = build.deployment("other", spec=OTHERS["a load"] | spec)
    assert record.spec is not None
    profile = complete().profile
    moved = replace(profile, meta=replace(profile.meta, key=profile.meta.key._replace(namespace=namespace)))
    assert words in thin_evidence(build.deployment_view(record, moved), record.spec)


def test_document_without_ledger_is_not_extended() -> None:
    record = build.profile(FIRST)
    assert record.spec is not None
    assert lacking(asked(**OTHERS["a load"]).question, record.spec, build.imported()) is None


def test_a_deployment_made_again_asks_nothing_new() -> None:
    life = extending(asked(**OTHERS["a load"]))
    life.gets_a_gpu()
    life.prints(gpu_seconds=60.0, failure_class="EngineDied", failure="exit 1", remedy="read the log")
    life.ends(failed_because=Cause("Failed"), terminated=Cause("Error", exit_code=1))
    life.until_it_rests()
    for users in ((), (asked("again", **OTHERS["a load"]),)):
        life.asked = users
        life.until_it_rests()
    assert life.begun == 2


def test_no_more_questions_are_remembered_than_status_holds() -> None:
    life = complete(*(asked(f"d{number:02}", profiling={"maxGpuMinutes": 20 + number}) for number in range(80)))
    life.until_it_rests()
    assert life.begun == 1
    kept = [one["question"] for one in life.status["answered"]]
    assert kept == [one.question.digest for one in life.asked[:64]]


def test_load_of_the_first_deployment_is_not_anothers() -> None:
    loaded = replace(searched(FIRST).workload, concurrency=20)
    document = replace(searched(FIRST), workload=loaded)
    plain = build.deployment("plain")
    assert plain.spec is not None
    advice = advise_deployment(plain.spec, document)
    assert advice == advise_deployment(plain.spec, searched(FIRST))
    named = build.deployment("named", spec=OTHERS["a load"])
    assert named.spec is not None
    assert advise_deployment(named.spec, document) != advice


def test_load_of_the_first_deployment_stays_in_the_document() -> None:
    life = extending(asked(**OTHERS["a load"]))
    more = longer(life)
    life.succeeds(replace(more, workload=replace(more.workload, concurrency=20)), 60.0)
    assert life.profile.measurements is not None
    assert life.profile.measurements.workload.concurrency is None
