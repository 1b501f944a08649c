"""Advice of one GPU product is served on that product and no other, and a profile's product is chosen before its Job is made."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from slm_core.measurements import CPU, Gpu
from slm_operator.api import names
from slm_operator.manifests.profile import template_digest
from slm_operator.manifests.served import read_served
from slm_operator.planning.actions import Apply, Delete, WriteStatus
from slm_operator.planning.deployment.plan import plan_deployment
from slm_operator.planning.fleet.demand import demand_of
from slm_operator.planning.fleet.plan import plan_fleet
from slm_operator.planning.profile.plan import plan_profile
from slm_operator.planning.views import ProfileView

from tests import builders as build
from tests.node_selector import admits

from .test_deployment import applied, status

if TYPE_CHECKING:
    from slm_core.measurements import MeasurementDocument
    from slm_operator.planning.views import DeploymentView
    from slm_operator.settings import Settings
    from slm_operator.watch.records import JobRecord, NodeRecord

H100, L4 = build.H100, "NVIDIA-L4"
PRODUCT = "nvidia.com/gpu.product"
TWO_PER_GPU: dict[str, Any] = {"sharing": {"mode": "MPS", "enginesPerGpu": 2, "partitioning": "NodeSlices"}}
NAMED_L4: dict[str, Any] = TWO_PER_GPU | {"accelerator": {"products": [L4]}}


def on(product: str) -> MeasurementDocument:
    return replace(build.imported(), gpu=Gpu(product=product, memory_bytes=80 << 30))


def view_of(document: MeasurementDocument, spec: dict[str, Any], **more: Any) -> DeploymentView:
    record = build.deployment(spec=spec)
    return build.deployment_view(record, build.profile(record, document), **more)


def said(view: DeploymentView, kind: str) -> tuple[str, str, str]:
    """Status, reason and message of a condition."""
    found = status(plan_deployment(view, build.SETTINGS, build.NOW))["conditions"]
    (one,) = (one for one in found if one["type"] == kind)
    return one["status"], one["reason"], one["message"]


def served_by(view: DeploymentView) -> dict[str, Any]:
    return applied(plan_deployment(view, build.SETTINGS, build.NOW))["Deployment"]


def bound(deployment: dict[str, Any]) -> list[str]:
    """Products of which replicas may be, of two that nodes are labelled with."""
    pod = deployment["spec"]["template"]["spec"]
    return [product for product in (L4, H100) if admits(pod, pod["nodeSelector"] | {PRODUCT: product})]


def admits_without_label(deployment: dict[str, Any]) -> bool:
    """Whether they may be on a node that is labelled as they select, and has none for its product."""
    pod = deployment["spec"]["template"]["spec"]
    return admits(
        pod,
        {name: value for name, value in pod["nodeSelector"].items() if name != PRODUCT} | {"kubernetes.io/os": "linux"},
    )


def with_room(document: MeasurementDocument, spec: dict[str, Any], **more: Any) -> DeploymentView:
    """With an answer of the fleet to what it asks for now."""
    view = view_of(document, spec, **more)
    served = read_served(view.workload.served) if view.workload is not None else None
    asked = demand_of(view.deployment, view.profile, view.advice, served)
    assert asked is not None
    made = plan_fleet(build.fleet_view(asked, nodes=()), build.SETTINGS, build.NOW).assignments[asked.deployment]
    return replace(view, assignment=replace(made, slots=2, nodes=("gpu-1",), pending_because=None, reason="Ready"))


@pytest.mark.parametrize("mode", ["MPS", "Exclusive"])
def test_replicas_are_bound_to_the_product_that_was_measured(mode: str) -> None:
    spec = (TWO_PER_GPU if mode == "MPS" else {"sharing": {"mode": mode, "partitioning": "NodeSlices"}}) | {
        "replicas": 2
    }
    view = with_room(on(L4), spec)
    made = served_by(view)
    assert bound(made) == [L4]
    # Slices that an administrator made may be on nodes that have no label for their product.
    assert admits_without_label(made) is (mode == "MPS")
    assert view.assignment is not None
    assert view.assignment.asked is not None
    assert view.assignment.asked.product == L4
    assert "of NVIDIA-L4 only, which was measured" in said(view, "Allocated")[2]


@pytest.mark.parametrize("product", [CPU, "unknown", ""])
def test_what_was_measured_on_no_known_gpu_is_bound_to_none(product: str) -> None:
    view = with_room(on(product), TWO_PER_GPU)
    assert PRODUCT not in served_by(view)["spec"]["template"]["spec"]["nodeSelector"]
    assert "only" not in said(view, "Allocated")[2]


def test_advice_of_another_product_than_named_is_not_followed() -> None:
    view = view_of(on(H100), NAMED_L4)
    state, reason, message = said(view, "Advised")
    assert (state, reason) == ("False", "OtherProduct")
    assert f"measured on {H100}" in message
    assert f"Name {H100}, or have {L4} measured: remove spec.profiling.profileRef" in message
    assert "Deployment" not in applied(plan_deployment(view, build.SETTINGS, build.NOW))
    assert demand_of(view.deployment, view.profile, view.advice) is None


def test_a_product_that_no_label_can_say_is_refused() -> None:
    assert said(view_of(on("NVIDIA A100 80GB"), TWO_PER_GPU), "Advised")[1] == "OtherProduct"


def test_a_product_that_left_is_said_and_nothing_moves() -> None:
    asked = build.demand(product=L4)
    made = plan_fleet(build.fleet_view(asked, nodes=(build.node(),)), build.SETTINGS, build.NOW)
    assert not made.plan.actions
    answer = made.assignments[asked.deployment]
    assert (answer.reason, answer.slots) == ("NoNode", 0)
    assert f"no node that opted in has {L4}" in (answer.pending_because or "")
    assert "name a product that is there in spec.accelerator.products" in (answer.pending_because or "")


@pytest.mark.parametrize("other", [{"product": L4}, {"node_selector": {"pool": "new"}}], ids=["product", "selector"])
def test_slots_that_it_may_have_no_more_are_no_room_for_a_roll(other: dict[str, Any]) -> None:
    now = build.demand(replicas=2, **other)
    there = build.partitioned_node("gpu-1", slice_class=build.MPS_2)
    next_one = build.node("gpu-2", labels={PRODUCT: L4, "pool": "new"})
    pods = tuple(build.replica(f"chat-{at}", "gpu-1", ready=True) for at in (1, 2))
    view = build.fleet_view(now, nodes=(there, next_one), pods=pods)
    answer = plan_fleet(view, build.SETTINGS, build.NOW).assignments[now.deployment]
    assert (answer.slots, answer.nodes) == (0, ())
    assert answer.changing == ("gpu-2",)


def of_an_earlier_version(spec: dict[str, Any]) -> dict[str, Any]:
    """The served annotation and pod template that a version wrote which bound nothing."""
    bound = served_by(with_room(on(CPU), spec))
    served = read_served(bound["metadata"]["annotations"][names.SERVED_ANNOTATION])
    assert served is not None
    template = bound["spec"]["template"]
    return {"text": served.model_copy(update={"bound": None}).text(), "template": without_affinity(template)}


def without_affinity(template: dict[str, Any]) -> dict[str, Any]:
    return template | {"spec": {name: value for name, value in template["spec"].items() if name != "affinity"}}


@pytest.mark.parametrize(
    "spec",
    [TWO_PER_GPU, {"sharing": {"mode": "Exclusive", "partitioning": "NodeSlices"}}],
    ids=["slices", "whole GPUs"],
)
def test_an_upgrade_restarts_no_engine_of_before(spec: dict[str, Any]) -> None:
    before = of_an_earlier_version(spec)
    there = build.workload("chat", replicas=2, ready=2, served=before["text"])
    view = with_room(on(L4), spec, workload=there)
    made = served_by(view)
    assert made["spec"]["template"] == before["template"]
    assert made["metadata"]["annotations"][names.SERVED_ANNOTATION] == before["text"]
    message = said(view, "Allocated")[2]
    assert f"spec.accelerator.products: [{L4}] binds them, and restarts them once" in message


@pytest.mark.parametrize(
    "changed",
    [{"slo": {"itl": {"maxMs": 14}}}, {"accelerator": {"nodeSelector": {"pool": "a"}}}],
    ids=["advice", "place"],
)
def test_what_was_not_bound_is_with_the_next_change(changed: dict[str, Any]) -> None:
    there = build.workload("chat", replicas=2, ready=2, served=of_an_earlier_version(TWO_PER_GPU)["text"])
    assert bound(served_by(with_room(on(L4), TWO_PER_GPU | changed, workload=there))) == [L4]


def gpu_node(name: str, product: str, gpus: int = 1, **more: Any) -> NodeRecord:
    labels = {PRODUCT: product, "kubernetes.io/hostname": name} | more.pop("labels", {})
    return build.node(name, gpus=gpus, labels=labels, **more)


def asked(*nodes: NodeRecord, **more: Any) -> ProfileView:
    return ProfileView(profile=build.profile(build.deployment()), **({"nodes": nodes} | more))


def job_of(view: ProfileView, settings: Settings = build.SETTINGS) -> tuple[dict[str, Any], str]:
    """The Job that is made, and what is said of it."""
    actions = plan_profile(view, settings, build.NOW).actions
    (job,) = (one.manifest for one in actions if isinstance(one, Apply))
    (write,) = (one for one in actions if isinstance(one, WriteStatus))
    return job, write.status["conditions"][0]["message"]


def product_of(view: ProfileView, settings: Settings = build.SETTINGS) -> str | None:
    selector = job_of(view, settings)[0]["spec"]["template"]["spec"]["nodeSelector"]
    found: str | None = selector.get(PRODUCT)
    return found


MORE_L4 = (gpu_node("a", H100), gpu_node("b", L4), gpu_node("c", L4))
TRAINING = tuple(build.foreign(f"training-{at}", at) for at in ("b", "c"))
ENGINES = tuple(build.replica(f"chat-{at}", at, gpu_requests={names.NVIDIA_GPU: 1}) for at in ("b", "c"))
MEASURED = build.job(build.profile(build.deployment("other")))
MEASURING = tuple(replace(build.measuring(MEASURED), node=at) for at in ("b", "c"))
CHOICES = {
    "one product": (asked(gpu_node("a", L4)), L4),
    "most GPUs": (asked(*MORE_L4), L4),
    "in any order": (asked(*reversed(MORE_L4)), L4),
    "as many": (asked(gpu_node("a", H100), gpu_node("b", L4)), H100),
    "GPUs, not nodes": (asked(gpu_node("a", H100, gpus=4), *MORE_L4[1:]), H100),
    "others hold the most": (asked(*MORE_L4, gpu_pods=TRAINING), H100),
    "replicas hold the most": (asked(*MORE_L4, gpu_pods=ENGINES), H100),
    "another profile holds the most": (asked(*MORE_L4, gpu_pods=MEASURING), L4),
    "all are held": (asked(*MORE_L4, gpu_pods=(build.foreign("training-a", "a"), *TRAINING)), L4),
    "the most are not ready": (asked(MORE_L4[0], *(replace(one, ready=False) for one in MORE_L4[1:])), H100),
    "none is ready": (asked(*(replace(one, ready=False) for one in MORE_L4)), L4),
    "the most are slices of ours": (asked(MORE_L4[0], build.partitioned_node("b", gpus=2, labels={PRODUCT: L4})), L4),
    "the most are parts": (asked(MORE_L4[0], gpu_node("b", L4, gpus=2, labels={"nvidia.com/mig.config": "all-1g.5gb"})), H100),
    "nobody opted in": (asked(gpu_node("a", L4, labels={names.OPT_IN_LABEL: "false"})), None),
    "no node is seen": (asked(), None),
}  # fmt: skip


@pytest.mark.parametrize(("view", "product"), CHOICES.values(), ids=CHOICES)
def test_product_is_chosen_before_the_job_is_made(view: ProfileView, product: str | None) -> None:
    assert product_of(view) == product


def test_the_choice_is_said_with_its_reason() -> None:
    job, message = job_of(asked(*MORE_L4))
    assert "on NVIDIA-L4, of which most GPUs are free or will be by themselves" in message
    assert f"({H100} 1 of 1, {L4} 2 of 2)" in message
    assert job["metadata"]["annotations"][names.PRODUCT_ANNOTATION] == L4
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["args"][container["args"].index("--gpu-product") + 1] == L4


def test_stand_ins_for_gpus_have_no_product() -> None:
    profiling = build.SETTINGS.profiling.model_copy(update={"device": "Cpu"})
    assert product_of(asked(*MORE_L4), build.SETTINGS.model_copy(update={"profiling": profiling})) is None


def with_job(product: str | None, *nodes: NodeRecord) -> ProfileView:
    """Its Job was made for that product, and no GPU is free."""
    view = asked(*nodes)
    job: JobRecord = build.job(view.profile, product=product)
    pod = build.measuring(job, node=None, phase="Pending", unscheduled_because="0/2 nodes are available")
    return replace(view, job=job, pod=pod)


def waits_for(view: ProfileView) -> tuple[list[Delete], dict[str, Any]]:
    actions = plan_profile(view, build.SETTINGS, build.NOW).actions
    (write,) = (one for one in actions if isinstance(one, WriteStatus))
    return [one for one in actions if isinstance(one, Delete)], dict(write.status)


def test_a_profile_that_waits_speaks_of_its_product_alone() -> None:
    gone, found = waits_for(with_job(L4, gpu_node("a", H100), gpu_node("b", L4)))
    assert not gone
    assert found["product"] == L4
    assert f"node a has {H100}, not {L4}" in found["conditions"][0]["message"]


def test_a_product_is_chosen_again_where_it_has_left_unmeasured() -> None:
    gone, found = waits_for(with_job(L4, gpu_node("a", H100)))
    assert [one.kind for one in gone] == ["Job"]
    assert f"no node that opted in has {L4} any more" in found["conditions"][0]["message"]


def test_a_job_of_an_earlier_version_stays() -> None:
    assert waits_for(with_job(None, gpu_node("a", H100)))[0] == []


def test_points_that_were_measured_keep_their_product() -> None:
    view = asked(*MORE_L4)
    partial = replace(on(H100), complete=False)
    kept = replace(view.profile, partial=partial, status=kept_status(view))
    job, message = job_of(replace(view, profile=kept))
    assert job["spec"]["template"]["spec"]["nodeSelector"][PRODUCT] == H100
    assert "as what was measured before" in message


def kept_status(view: ProfileView) -> dict[str, Any]:
    assert view.profile.spec is not None
    return {"phase": "Pending", "partialOf": template_digest(view.profile.spec)}
