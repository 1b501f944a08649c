"""What is called nvidia.com/gpu and is part of a GPU: no profile, no engine that wants a whole one, and no change of such a node.

From raw nodes as NVIDIA's stack, a cloud or a hand leaves them. What reports from the field had is among them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from slm_core.measurements import SharingMode
from slm_operator.api import names
from slm_operator.api.profile import GpuSpec
from slm_operator.manifests.replicas import Nodes, pod_template
from slm_operator.planning.actions import Apply
from slm_operator.planning.fleet.plan import plan_fleet
from slm_operator.planning.profile.gpu import gpu_wait, preferences
from slm_operator.planning.profile.plan import plan_profile
from slm_operator.planning.views import FleetPlan, FleetView, ProfileView

from tests import builders as build
from tests.node_selector import admits

if TYPE_CHECKING:
    from slm_operator.watch.records import NodeRecord

A10G, A100 = "NVIDIA-A10G", "NVIDIA-A100-SXM4-40GB"
CONFIG = build.SETTINGS.device_plugin.config_label
SHORT_NAME = "version: v1\nsharing:\n  timeSlicing:\n    resources:\n    - name: gpu\n      replicas: 4\n"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A node that offers parts of GPUs, and what must be said of it."""

    labels: dict[str, str]
    offers: dict[str, int]
    capacity: dict[str, int] | None = None
    words: str
    texts: dict[str, str] = field(default_factory=dict)
    """Of the device plugin's ConfigMap."""

    def node(self) -> NodeRecord:
        labels = {"kubernetes.io/hostname": "gpu-1"} | self.labels
        raw = build.raw_gpu_node(gpus=1, product=A10G, labels=labels, allocatable=self.offers, capacity=self.capacity)
        return build.read_node(raw)


SLICED = {"nvidia.com/gpu.replicas": "12", "nvidia.com/gpu.sharing-strategy": "time-slicing"}
MIG = {
    "nvidia.com/gpu.count": "7",
    "nvidia.com/gpu.memory": "4864",
    "nvidia.com/gpu.product": f"{A100}-MIG-1g.5gb",
    "nvidia.com/mig.strategy": "single",
}
TWELVE, SEVEN = {names.NVIDIA_GPU: 12}, {names.NVIDIA_GPU: 7}
CASES = {
    "time slices that are not renamed": Case(
        labels=SLICED | {"nvidia.com/gpu.product": f"{A10G}-SHARED"}, offers=TWELVE, words="=time-slicing)"
    ),
    "slices of an older feature discovery": Case(
        labels={"nvidia.com/gpu.replicas": "12", "nvidia.com/gpu.sharing-strategy": ""},
        offers=TWELVE,
        words="nvidia.com/gpu.replicas=12",
    ),
    "a product that says so alone": Case(
        labels={"nvidia.com/gpu.product": f"{A10G}-SHARED"}, offers={names.NVIDIA_GPU: 1}, words=f"={A10G}-SHARED)"
    ),
    "more than there are": Case(
        labels={}, offers=TWELVE, words="it offers 12 nvidia.com/gpu, and nvidia.com/gpu.count is 1"
    ),
    "more than there are, most of them unhealthy": Case(
        labels={}, offers={names.NVIDIA_GPU: 1}, capacity=TWELVE, words="it offers 12 nvidia.com/gpu"
    ),
    "MIG under MIG manager": Case(
        labels=MIG | {"nvidia.com/mig.config": "all-1g.5gb"}, offers=SEVEN, words="disable MIG there"
    ),
    "MIG without MIG manager": Case(labels=MIG, offers=SEVEN, words=f"divided by MIG (nvidia.com/gpu.product={A100}"),
    "MIG that is set up wrongly": Case(
        labels=MIG | {"nvidia.com/gpu.product": f"{A100}-MIG-INVALID", "nvidia.com/gpu.count": "0"},
        offers={},
        words="divided by MIG",
    ),
    "MIG beside whole GPUs": Case(
        labels={"nvidia.com/mig.strategy": "mixed"},
        offers={names.NVIDIA_GPU: 1, "nvidia.com/mig-1g.5gb": 7},
        words="it offers nvidia.com/mig-1g.5gb",
    ),
    "a cloud that shares GPUs": Case(
        labels={"cloud.google.com/gke-gpu-sharing-strategy": "time-sharing"}, offers=TWELVE, words="shared by the cloud"
    ),
    "a cloud that divides GPUs": Case(
        labels={"cloud.google.com/gke-gpu-partition-size": "1g.5gb"},
        offers=SEVEN,
        words="gke-gpu-partition-size=1g.5gb",
    ),
    "virtual GPUs": Case(
        labels={"nvidia.com/vgpu.present": "true"}, offers={names.NVIDIA_GPU: 1}, words="has virtual GPUs"
    ),
    "virtual GPUs by their name": Case(
        labels={"nvidia.com/gpu.product": "NVIDIA-A40-8Q"}, offers={names.NVIDIA_GPU: 1}, words="=NVIDIA-A40-8Q)"
    ),
    "a configuration that is about to be loaded": Case(
        labels={CONFIG: "theirs"}, offers={names.NVIDIA_GPU: 1}, words="time-slicing-4", texts={"theirs": SHORT_NAME}
    ),
    "a default that is about to be loaded": Case(
        labels={}, offers={names.NVIDIA_GPU: 1}, words="time-slicing-4", texts={"default": SHORT_NAME}
    ),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def profile_view(case: Case) -> ProfileView:
    stack = {"config_map": build.config_map(**case.texts), "daemons": build.plugin_pods("gpu-1")}
    return ProfileView(profile=build.profile(build.deployment()), nodes=(case.node(),), **stack)


def planned(case: Case, **demand: Any) -> tuple[FleetPlan, int, str]:
    """The plan of a fleet of that node, the slots that a deployment is given, and why no more."""
    asked = build.demand(**demand)
    view = build.fleet_view(asked, nodes=(case.node(),), config_map=build.config_map(**case.texts))
    plan = plan_fleet(view, build.SETTINGS, build.NOW)
    answer = plan.assignments[asked.deployment]
    return plan, answer.slots, answer.pending_because or ""


@each_case
def test_no_profile_is_sent_to_a_part_of_a_gpu(case: Case) -> None:
    view = profile_view(case)
    assert preferences(view, GpuSpec(), build.SETTINGS) == ()
    assert case.words in gpu_wait(view, GpuSpec(), build.SETTINGS)


@each_case
def test_a_part_is_not_given_for_a_whole_gpu(case: Case) -> None:
    _, slots, said = planned(case, slice_class=build.WHOLE, replicas=3)
    assert slots == 0
    assert case.words in said


@each_case
def test_a_node_with_parts_is_never_reconfigured(case: Case) -> None:
    for wanted in (build.MPS_2, replace(build.MPS_2, mode="TimeSlicing")):
        plan, slots, said = planned(case, slice_class=wanted)
        assert plan.plan.actions == ()
        assert slots == 0
        assert said


def profile_pod(case: Case) -> dict[str, Any]:
    (job,) = (
        one.manifest
        for one in plan_profile(profile_view(case), build.SETTINGS, build.NOW).actions
        if isinstance(one, Apply)
    )
    pod: dict[str, Any] = job["spec"]["template"]["spec"]
    return pod


@each_case
def test_the_scheduler_keeps_profiles_off_parts(case: Case) -> None:
    assert not admits(profile_pod(case), case.node().meta.labels)


SAID_BY_NO_LABEL = ("more than there are", "is about to be loaded", "MIG beside whole GPUs")


@each_case
def test_the_scheduler_keeps_whole_gpu_engines_off_parts(case: Case) -> None:
    """But for what no label says: there the fleet counts no room."""
    record, serving = build.deployment(), build.serving(SharingMode.EXCLUSIVE, 1)
    nodes = Nodes(opt_in_label=names.OPT_IN_LABEL, product=A10G)
    pod = pod_template(record, build.spec_of(record), serving, nodes)["spec"]
    unsaid = any(words in name for name, one in CASES.items() if one is case for words in SAID_BY_NO_LABEL)
    assert admits(pod, case.node().meta.labels) == unsaid


WHOLE = {
    "as feature discovery has it": {},
    "MIG that could be": {"nvidia.com/mig.capable": "true", "nvidia.com/mig.strategy": "single"},
    "MIG manager with nothing to do": {"nvidia.com/mig.config": "all-disabled"},
    "a GPU that a hypervisor passes through": {"nvidia.com/vgpu.present": "false"},
    "a product whose name ends like a part's": {"nvidia.com/gpu.product": "NVIDIA-H20-3e"},
}


@pytest.mark.parametrize("labels", WHOLE.values(), ids=WHOLE)
def test_a_gpu_of_which_nothing_says_otherwise_is_whole(labels: dict[str, str]) -> None:
    case = Case(labels=labels, offers={names.NVIDIA_GPU: 1}, words="")
    assert admits(profile_pod(case), case.node().meta.labels)
    assert len(preferences(profile_view(case), GpuSpec(), build.SETTINGS)) == 1
    assert planned(case, slice_class=build.WHOLE, replicas=1)[1] == 1


def test_a_node_without_feature_discovery_takes_profiles() -> None:
    raw = build.raw_node(labels=build.OPTED_IN | {"kubernetes.io/hostname": "gpu-1"}, allocatable={names.NVIDIA_GPU: 4})
    view = ProfileView(profile=build.profile(build.deployment()), nodes=(build.read_node(raw),))
    assert len(preferences(view, GpuSpec(), build.SETTINGS)) == 1
    (job,) = (one.manifest for one in plan_profile(view, build.SETTINGS, build.NOW).actions if isinstance(one, Apply))
    assert admits(job["spec"]["template"]["spec"], raw["metadata"]["labels"])


def one_of_eight_unhealthy() -> NodeRecord:
    raw = build.raw_gpu_node(gpus=8, allocatable={names.NVIDIA_GPU: 7}, capacity={names.NVIDIA_GPU: 8})
    return build.read_node(raw)


@pytest.mark.parametrize("slice_class", [build.WHOLE, build.MPS_2], ids=["whole", "slices"])
def test_an_unhealthy_gpu_is_counted_before_a_node_is_drained(slice_class: Any) -> None:
    asked = build.demand(slice_class=slice_class, replicas=8 * slice_class.engines_per_gpu)
    plan = plan_fleet(build.fleet_view(asked, nodes=(one_of_eight_unhealthy(),)), build.SETTINGS, build.NOW)
    said = plan.assignments[asked.deployment].pending_because or ""
    assert f"and {7 * slice_class.engines_per_gpu} can be placed" in said


def test_a_slot_that_is_unhealthy_is_not_given() -> None:
    node = build.partitioned_node(gpus=2, slice_class=build.MPS_2, allocatable={names.NVIDIA_SHARED_GPU: 3})
    asked = build.demand(replicas=4)
    daemons = (*build.plugin_pods("gpu-1"), build.daemon("mps-control-daemon", "gpu-1"))
    view: FleetView = build.fleet_view(asked, nodes=(node,), daemons=daemons)
    answer = plan_fleet(view, build.SETTINGS, build.NOW).assignments[asked.deployment]
    assert "4 replicas want mps-2 GPUs and 3 can be placed" in (answer.pending_because or "")
