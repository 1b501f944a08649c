"""What anybody's configuration of the device plugin makes of a GPU; what cannot be read is nobody's class."""

from __future__ import annotations

import pytest
from slm_core.measurements import SharingMode
from slm_operator.partitioning.base import SliceClass
from slm_operator.partitioning.plugin_config import class_of_config, plugin_config


def sharing(replicas: str, field: str = "mps") -> str:
    return f"version: v1\nsharing:\n  {field}:\n    resources: [{{name: nvidia.com/gpu, replicas: {replicas}}}]\n"


@pytest.mark.parametrize("mode", [SharingMode.MPS, SharingMode.TIME_SLICING])
def test_our_own_configuration_is_read_as_what_it_is(mode: SharingMode) -> None:
    wanted = SliceClass(mode=mode, engines_per_gpu=4)
    assert class_of_config(plugin_config(wanted)) == wanted


def test_a_configuration_without_sharing_leaves_the_gpu_whole() -> None:
    assert class_of_config("version: v1\n") == SliceClass(mode=SharingMode.EXCLUSIVE, engines_per_gpu=1)


UNREADABLE = {
    "no YAML": "{",
    "a number beyond all numbers": sharing(".inf"),
    "no number": sharing(".nan"),
    "a word": sharing("many"),
    "a list": sharing("[2]"),
    "more than any GPU has": sharing("1001"),
    "nested deeply": "a: " + "[" * 1_200,
    "longer than any configuration": "# x\n" * 20_000,
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_read_is_of_no_class(case: str) -> None:
    assert class_of_config(UNREADABLE[case]) is None
