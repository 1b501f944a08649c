"""What anybody's configuration of the device plugin makes of a GPU; what cannot be read is nobody's class."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from slm_core.measurements import SharingMode
from slm_operator.partitioning.base import SliceClass
from slm_operator.partitioning.plugin_config import class_of_config, plugin_config


def sharing(replicas: str, field: str = "mps") -> str:
    return f"version: v1\nsharing:\n  {field}:\n    resources: [{{name: nvidia.com/gpu, replicas: {replicas}}}]\n"


@pytest.mark.parametrize("mode", [SharingMode.MPS, SharingMode.TIME_SLICING])
def test_our_own_configuration_is_read_as_what_it_is(mode: SharingMode) -> None:
    wanted = SliceClass(mode=mode, engines_per_gpu=4)
    assert class_of_config(plugin_config(wanted)) == wanted


def test_a_resource_without_its_domain_is_nvidias() -> None:
    text = sharing("4", "timeSlicing").replace("nvidia.com/gpu", "gpu")
    assert class_of_config(text) == SliceClass(mode=SharingMode.TIME_SLICING, engines_per_gpu=4)


def test_a_configuration_without_sharing_leaves_the_gpu_whole() -> None:
    assert class_of_config("version: v1\n") == SliceClass(mode=SharingMode.EXCLUSIVE, engines_per_gpu=1)


MERGES = "a0: &a0 {k: v}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 60))
UNREADABLE = {
    "no YAML": "{",
    "a number beyond all numbers": sharing(".inf"),
    "no number": sharing(".nan"),
    "a word": sharing("many"),
    "a list": sharing("[2]"),
    "more than any GPU has": sharing("1001"),
    "nested deeply": "a: " + "[" * 1_200,
    "nested more deeply": "[" * 5_000,
    "no time": "a: 2026-99-99",
    "a time that is none": "a: !!timestamp x",
    "a number of thousands of digits": sharing("9" * 5_000),
    "merges without end": MERGES,
    "longer than any configuration": "# x\n" * 20_000,
}


def test_a_class_may_be_merged_from_elsewhere() -> None:
    text = f"x: &gpu {{name: nvidia.com/gpu}}\n{sharing('2')}".replace("name: nvidia.com/gpu, r", "<<: *gpu, r")
    assert class_of_config(text) == SliceClass(mode=SharingMode.MPS, engines_per_gpu=2)


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("nvidia.com/gpu"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("sharing", "mps", "timeSlicing", "resources", "name", "replicas")), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(ODD, ODD, ODD)
@settings(max_examples=60, deadline=None)
def test_plugin_configuration_of_any_type_is_no_error(whole: Any, shared: Any, resource: Any) -> None:
    for body in (
        whole,
        {"sharing": shared},
        {"sharing": {"mps": {"resources": [resource]}}},
        {"sharing": {"mps": resource}},
    ):
        found = class_of_config(yaml.safe_dump(body))
        assert found is None or found.engines_per_gpu >= 1


@pytest.mark.parametrize("case", UNREADABLE)
def test_unreadable_configuration_has_no_slice_class(case: str) -> None:
    assert class_of_config(UNREADABLE[case]) is None
