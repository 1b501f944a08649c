"""What anybody's configuration of the device plugin makes of a GPU; what cannot be read is nobody's class."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from slm_core.measurements import SharingMode
from slm_operator.partitioning.base import UNSHARED, SliceClass
from slm_operator.partitioning.plugin_config import (
    BARE,
    MOST_CHARACTERS,
    class_of_config,
    class_of_key,
    config_key,
    fault_of_base,
    plugin_config,
)


def sharing(replicas: str, field: str = "mps") -> str:
    return f"version: v1\nsharing:\n  {field}:\n    resources: [{{name: nvidia.com/gpu, replicas: {replicas}}}]\n"


@pytest.mark.parametrize("mode", [SharingMode.MPS, SharingMode.TIME_SLICING])
def test_our_own_configuration_is_read_as_what_it_is(mode: SharingMode) -> None:
    wanted = SliceClass(mode=mode, engines_per_gpu=4)
    assert class_of_config(plugin_config(wanted)) == wanted


def test_a_resource_without_its_domain_is_nvidias() -> None:
    text = sharing("4", "timeSlicing").replace("nvidia.com/gpu", "gpu")
    assert class_of_config(text) == SliceClass(mode=SharingMode.TIME_SLICING, engines_per_gpu=4)


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
FIELDS = ("version", "flags", "plugin", "sharing", "resources", "mps", "timeSlicing", "imex")
ODD_TEXTS = st.dictionaries(st.sampled_from(FIELDS), ODD, max_size=4).map(yaml.safe_dump) | st.text(max_size=40)


RICH = """version: v1
flags:
  migStrategy: none
  nvidiaDriverRoot: /run/nvidia/driver
  plugin: {deviceListStrategy: [cdi-annotations], deviceIDStrategy: index}
  gfd: {oneshot: false, sleepInterval: 30s}
imex: {channelIDs: [0]}
fieldOfTheFuture: [1, {a: "0123"}]
"""
MPS_4 = SliceClass(mode=SharingMode.MPS, engines_per_gpu=4)


@pytest.mark.parametrize("wanted", [MPS_4, UNSHARED], ids=str)
def test_all_but_sharing_stays_as_the_node_had_it(wanted: SliceClass) -> None:
    """Finding 13: pods start without a GPU where the driver's root or the device lists are lost."""
    made, base = yaml.safe_load(plugin_config(wanted, RICH)), yaml.safe_load(RICH)
    assert made.pop("sharing", None) == (yaml.safe_load(plugin_config(wanted)).get("sharing"))
    assert made["flags"]["plugin"].pop("sharedDevicesAllocationPolicy") == "packed"
    assert made == base
    assert class_of_config(plugin_config(wanted, RICH)) == wanted


def test_each_base_of_a_class_has_a_key_of_its_own() -> None:
    keys = {config_key(wanted, base) for wanted in (MPS_4, UNSHARED) for base in (BARE, RICH)}
    assert len(keys) == 4
    assert {class_of_key(key) for key in keys} == {MPS_4, None}


@pytest.mark.parametrize("base", ["", "# nothing\n", "version: v1\n", "sharing: {}\n", "version: null"])
def test_bases_that_say_nothing_have_one_key(base: str) -> None:
    assert config_key(MPS_4, base) == config_key(MPS_4)


def test_sharing_that_shares_nothing_is_free_to_be_set() -> None:
    base = "sharing: {timeSlicing: {renameByDefault: true, resources: []}, mps: null}"
    assert fault_of_base(base) is None
    assert class_of_config(plugin_config(MPS_4, base)) == MPS_4


UNFIT = {
    "no mapping": ("[]", "cannot be read (its text is no mapping)"),
    "no YAML": ("{", "cannot be read (while parsing"),
    "two documents": ("a: 1\n---\nb: 2\n", "cannot be read (expected a single document"),
    "nested deeply": ("a: " + "[" * 1_200, "cannot be read (nested too deeply"),
    "nested by lines": ("\n".join(f"{' ' * level}a:" for level in range(240)), "is too long"),
    "another version": ("version: v2", "has version v2"),
    "flags of a word": ("flags: many", "cannot be read (flags is no mapping)"),
    "flags of a list": ("flags: {plugin: [1]}", "cannot be read (flags.plugin is no mapping)"),
    "sharing of a word": ("sharing: much", "cannot be read (sharing is no mapping)"),
    "somebody's sharing": (sharing("2", "timeSlicing"), "has GPUs shared already (sharing.timeSlicing)"),
    "of MIG devices": (
        "sharing: {timeSlicing: {resources: [{name: nvidia.com/mig-1g.5gb, replicas: 2}]}}",
        "has GPUs shared already",
    ),
    "of the future": ("sharing: {carving: {slices: 2}}", "has GPUs shared already (sharing.carving)"),
    "long": ("# x\n" * 20_000, "is too long"),
    "long when merged": (f"a: &a [{', '.join(['word'] * 2_000)}]\nb: {{<<: {{c: {'x' * 30_000}}}}}\n", "is too long"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_base_that_none_can_be_made_from_says_why(case: str) -> None:
    text, because = UNFIT[case]
    assert because in (fault_of_base(text) or "")


@given(ODD_TEXTS)
@settings(max_examples=60, deadline=None)
def test_what_is_made_from_any_base_is_read_as_ours(base: str) -> None:
    if fault_of_base(base) is None:
        for wanted in (MPS_4, UNSHARED):
            text = plugin_config(wanted, base)
            assert class_of_config(text) == wanted
            assert len(text) < MOST_CHARACTERS


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
