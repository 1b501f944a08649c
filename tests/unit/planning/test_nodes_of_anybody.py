"""Whatever stands in labels and annotations of nodes and in the plugin's ConfigMap: every pass over the fleet ends."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slm_operator.api import names
from slm_operator.partitioning import discovery
from slm_operator.partitioning.base import class_of_label
from slm_operator.planning.fleet.plan import plan_fleet

from tests import builders as build

ANNOTATIONS = (
    names.CHANGING_TO_ANNOTATION,
    names.CHANGE_STARTED_ANNOTATION,
    names.CHANGE_FAILED_ANNOTATION,
    names.FORMER_CONFIG_ANNOTATION,
)
LABELS = (
    names.CLASS_LABEL,
    names.SERVES_LABEL,
    build.SETTINGS.device_plugin.config_label,
    "nvidia.com/gpu.count",
    "nvidia.com/gpu.replicas",
    "nvidia.com/gpu.memory",
    "nvidia.com/gpu.sharing-strategy",
    "nvidia.com/gpu.product",
    "nvidia.com/gpu.compute.major",
    "nvidia.com/mps.capable",
)
ODD = (
    "", "-1", "0", "²", "9" * 63, "9" * 5000, "mps-" + "9" * 5000, "mps-²", "mps-0", "mps-2", "time-slicing-4", "exclusive", "true",
    '{"class": "mps-²", "serves": "team.chat"}', '{"class": "mps-' + "9" * 5000 + '", "serves": "team.chat"}',
    '{"class": "mps-2", "serves": "team.chat"}', '{"class": 2, "serves": []}', '{"givenBack": 1}', '{"givenBack": true}', "[" * 5000,
    '{"mps-2": {"a": []}}', '{"mps-2": "\\ud83d"}', "9" * 20000, "2026-99-99T00:00:00Z", "2026-01-01", "9999-12-31T23:59:59.9+14:00", "NaN",
)  # fmt: skip
TEXTS = st.sampled_from(ODD) | st.text(max_size=20)


@given(
    st.dictionaries(st.sampled_from(ANNOTATIONS), TEXTS, max_size=4),
    st.dictionaries(st.sampled_from(LABELS), TEXTS, max_size=4),
    st.dictionaries(st.sampled_from(("default", "other", names.CONFIG_KEY_PREFIX + "mps-2-x")), TEXTS, max_size=2),
    st.integers(0, 1),
)
@settings(max_examples=60, deadline=None)
def test_fleet_of_any_node_metadata_is_planned(
    annotations: dict[str, str], labels: dict[str, str], config: dict[str, str], replicas: int
) -> None:
    node = build.node(labels=labels)
    odd = replace(node, meta=replace(node.meta, annotations=annotations))
    pods = (build.replica("a"),) * replicas
    view = build.fleet_view(
        build.demand(), build.demand("whole", slice_class=build.WHOLE), nodes=(odd, build.node("gpu-2")), pods=pods
    )
    plan = plan_fleet(replace(view, config_map=build.config_map(**config)), build.SETTINGS, build.NOW)
    assert set(plan.assignments) == {demand.deployment for demand in view.demands}


@pytest.mark.parametrize("text", ["²", "9" * 5000, "-1", "1.5", "", " 1", None])
def test_label_of_no_number_is_none(text: str | None) -> None:
    assert discovery.number(text) == 0
    assert class_of_label(f"mps-{text}") is None
