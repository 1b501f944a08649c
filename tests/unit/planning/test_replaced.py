"""Another engine image beside the one that it replaced: as fast, or slower by more than chance explains."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from slm_core.measurements import Model, Point
from slm_operator.api.status import SLMDeploymentStatus
from slm_operator.planning.actions import WriteStatus
from slm_operator.planning.deployment.advising import advice_of
from slm_operator.planning.deployment.plan import plan_deployment
from slm_operator.planning.deployment.replaced import replaced_name
from slm_operator.planning.views import Assignment

from tests import builders as build

if TYPE_CHECKING:
    from slm_core.measurements import MeasurementDocument
    from slm_operator.planning.views import DeploymentView
    from slm_operator.watch.records import ProfileRecord

SPEC = {"slo": {"itl": {"maxMs": 200}}, "sharing": {"mode": "Exclusive"}}


def measured(image: str | None, speed: float = 1.0, **changes: Any) -> MeasurementDocument:
    """The published sweep as this image would have measured it, each step so much faster."""

    def point(p: Point) -> Point:
        rates = ("throughput_tokens_per_second", "output_tokens_per_second")
        faster = {name: getattr(p, name) * speed for name in rates}
        itl = replace(p.itl_ms, mean_ms=p.itl_ms.mean_ms / speed, p99_ms=None)
        return replace(p, **faster, itl_ms=itl, throughput_ci_fraction=0.01)

    found = build.imported()
    return replace(found, engine=replace(found.engine, image=image), points=tuple(map(point, found.points)), **changes)


def profile(name: str, document: MeasurementDocument) -> ProfileRecord:
    record = build.profile(build.deployment(spec=SPEC), document)
    return replace(record, meta=replace(record.meta, key=record.meta.key._replace(name=name)))


NOW = profile("now", measured("vllm:2"))


def view(former: MeasurementDocument | None, advice: dict[str, Any] | None = None) -> DeploymentView:
    status = {"advice": {"profileRef": {"name": "former"}} if advice is None else advice}
    record = build.deployment(spec=SPEC, status=status)
    return build.deployment_view(
        record,
        NOW,
        replaced=profile("former", former) if former is not None else None,
        advice=advice_of(record, NOW),
        assignment=Assignment(slice_class=build.WHOLE, nodes=("gpu-1",), slots=1),
        workload=build.workload("chat", replicas=1, ready=1),
    )


def said(of: DeploymentView) -> dict[str, Any]:
    (write,) = (a for a in plan_deployment(of, build.SETTINGS, build.NOW).actions if isinstance(a, WriteStatus))
    SLMDeploymentStatus.model_validate(write.status)
    return dict(write.status)


def condition(status: dict[str, Any]) -> tuple[str, str] | None:
    found = (one for one in status["conditions"] if one["type"] == "AsFastAsBefore")
    return next(((one["status"], one["reason"]) for one in found), None)


CASES: list[tuple[str, MeasurementDocument | None, tuple[str, str] | None]] = [
    ("a slower image", measured("vllm:1", 1.1), ("False", "SlowerEngine")),
    ("a faster image", measured("vllm:1", 0.9), ("True", "AsFast")),
    ("the noise", measured("vllm:1", 1.01), ("True", "AsFast")),
    ("the same image", measured("vllm:2", 1.1), None),
    ("an image that nobody named", measured(None, 1.1), None),
    ("another model", measured("vllm:1", 1.1, model=Model(uri="hf://another")), None),
    ("another GPU", measured("vllm:1", 1.1, gpu=replace(build.imported().gpu, product="NVIDIA-L4")), None),
    ("a profile that is gone", None, None),
]


@pytest.mark.parametrize(("former", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_new_image_is_held_against(former: MeasurementDocument | None, expected: tuple[str, str] | None) -> None:
    status = said(view(former))
    assert condition(status) == expected
    ready = next(one["status"] for one in status["conditions"] if one["type"] == "Ready")
    assert ready == "True"


def test_a_slower_image_is_said_with_its_figures_and_remedy() -> None:
    status = said(view(measured("vllm:1", 1.1)))
    (message,) = (one["message"] for one in status["conditions"] if one["type"] == "AsFastAsBefore")
    assert "makes -9.1% tokens/s against that of vllm:1, measured as SLMProfile former" in message
    assert "beyond the noise of 1.4%: see what differs: kubectl slm profile diff former now" in message
    assert status["advice"]["replaced"]["changeFraction"] == pytest.approx(1 / 1.1 - 1, abs=1e-4)


def test_what_was_found_stays_when_the_former_profile_goes() -> None:
    first = said(view(measured("vllm:1", 1.1)))
    later = said(view(None, first["advice"]))
    assert later["advice"]["replaced"] == first["advice"]["replaced"]
    assert condition(later) == ("False", "SlowerEngine")


NAMES: list[tuple[str, dict[str, Any], str | None]] = [
    ("nothing before", {}, None),
    ("the same profile", {"advice": {"profileRef": {"name": "now"}}}, None),
    ("another profile", {"advice": {"profileRef": {"name": "former"}}}, "former"),
    ("one that was replaced", {"advice": {"profileRef": {"name": "now"}, "replaced": {"profileRef": {"name": "former"}}}}, "former"),
    ("the last of two", {"advice": {"profileRef": {"name": "second"}, "replaced": {"profileRef": {"name": "first"}}}}, "second"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "name"), [c[1:] for c in NAMES], ids=[c[0] for c in NAMES])
def test_what_was_advised_from_before(status: dict[str, Any], name: str | None) -> None:
    assert replaced_name(status, "now") == name
