"""The guide to static slices on GKE: its configuration makes the slices that its deployment requests, and planning keeps its promises."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from slm_core.measurements import SharingMode
from slm_operator.api import names
from slm_operator.api.deployment import SLMDeploymentSpec
from slm_operator.partitioning.base import SliceClass
from slm_operator.planning.actions import EmitEvent, PatchNode
from slm_operator.planning.fleet.plan import plan_fleet
from slm_operator.planning.fleet.tolerations import tolerations_of
from slm_operator.watch.records import NodeRecord, Taint

from tests import builders as build
from tests.docs.pages import ROOT, yaml_objects
from tests.standin.config import parse
from tests.standin.labels import feature_labels
from tests.standin.settings import Hardware

GUIDE = {found["kind"]: found for found in yaml_objects(ROOT / "docs/how-to/gke-static-slices.md")}
CONFIGS: dict[str, str] = GUIDE["ConfigMap"]["data"]
GKE_TAINT = Taint(key="nvidia.com/gpu", value="present", effect="NoSchedule")
GKES_OWN = {
    "cloud.google.com/gke-accelerator": "nvidia-l4",
    "cloud.google.com/gke-gpu-sharing-strategy": "time-sharing",
    "cloud.google.com/gke-max-shared-clients-per-gpu": "2",
}


@pytest.fixture
def spec() -> SLMDeploymentSpec:
    return SLMDeploymentSpec.model_validate(GUIDE["SLMDeployment"]["spec"])


def gke_node(labels: dict[str, str], allocatable: dict[str, int]) -> NodeRecord:
    raw = build.raw_node("pool-1", labels=build.OPTED_IN | labels, allocatable=allocatable)
    return build.read_node(raw, taints=(GKE_TAINT,))


def planned(node: NodeRecord, spec: SLMDeploymentSpec) -> tuple[tuple[Any, ...], str | None]:
    """What is done for the guide's deployment with this one node, and what it waits for."""
    assert spec.sharing.engines_per_gpu is not None
    slice_class = SliceClass(mode=SharingMode(spec.sharing.mode), engines_per_gpu=spec.sharing.engines_per_gpu)
    tolerations = tolerations_of(one.given() for one in spec.accelerator.tolerations)
    asked = replace(build.demand(slice_class=slice_class, tolerations=tolerations), product=spec.accelerator.product)
    plugin = [replace(one, default_key="halves") for one in build.plugin_pods("pool-1")]
    view = build.fleet_view(asked, nodes=(node,), daemons=tuple(plugin), config_map=build.config_map(**CONFIGS))
    made = plan_fleet(view, build.SETTINGS, build.NOW)
    return made.plan.actions, made.assignments[asked.deployment].pending_because


def test_slices_by_the_gke_guide_get_two_labels_and_no_more(spec: SLMDeploymentSpec) -> None:
    config = parse(CONFIGS["halves"])
    shown = feature_labels(config, Hardware(product="NVIDIA L4", count=1), timestamp_s=0)
    actions, _ = planned(gke_node(shown, {config.resource: 2}), spec)
    patch, event = actions
    assert isinstance(patch, PatchNode)
    assert isinstance(event, EmitEvent)
    assert patch.labels == {names.CLASS_LABEL: "time-slicing-2", names.SERVES_LABEL: "team.chat"}
    assert (patch.taints, dict(patch.annotations)) == (None, {})


def test_slices_of_gkes_own_plugin_are_left_alone(spec: SLMDeploymentSpec) -> None:
    actions, waits_for = planned(gke_node(GKES_OWN, {names.NVIDIA_GPU: 2}), spec)
    assert actions == ()
    assert waits_for is not None
    assert "shared by the cloud (cloud.google.com/gke-gpu-sharing-strategy=time-sharing)" in waits_for
