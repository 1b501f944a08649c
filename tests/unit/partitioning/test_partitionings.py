"""What the ways of dividing GPUs answer: resource, nodes, and how a node's labels read."""

import pytest
from slm_core.measurements import SharingMode
from slm_core.sharing import PACKED
from slm_operator.api import names
from slm_operator.partitioning import PARTITIONINGS, RESOURCES, partitioning_of
from slm_operator.partitioning.base import UNSHARED, SliceClass, class_of_label, nodes_allowed
from slm_operator.partitioning.discovery import compute_capability
from slm_operator.partitioning.node_slices import (
    NODE_SLICES,
    REPLICAS_LABEL,
    STRATEGIES,
    STRATEGY_LABEL,
    daemon_of,
    gpu_of_device,
    shown_class,
)
from slm_operator.partitioning.whole_gpus import WHOLE_GPUS

MPS_4 = SliceClass(mode=SharingMode.MPS, engines_per_gpu=4)
SLICED_2 = SliceClass(mode=SharingMode.TIME_SLICING, engines_per_gpu=2)


def test_every_mode_of_packs_can_be_given_as_slices_of_a_node() -> None:
    assert STRATEGIES.keys() == {one.mode for one in PACKED}


@pytest.mark.parametrize(
    ("asked", "resource", "changes_nodes", "labels"),
    [
        (UNSHARED, "nvidia.com/gpu", False, {}),
        (MPS_4, "nvidia.com/gpu.shared", True, {names.CLASS_LABEL: "mps-4", names.SERVES_LABEL: "team.chat"}),
        (SLICED_2, "nvidia.com/gpu.shared", True, {names.CLASS_LABEL: "time-slicing-2", names.SERVES_LABEL: "team.chat"}),
    ],
    ids=["whole", "mps", "time slicing"],
)  # fmt: skip
def test_slice_class_has_one_partitioning(
    asked: SliceClass,
    resource: str,
    changes_nodes: bool,  # noqa: FBT001
    labels: dict[str, str],
) -> None:
    way = partitioning_of(asked)
    assert (way.resource, way.changes_nodes, way.node_labels(asked, "team.chat")) == (resource, changes_nodes, labels)
    assert way in PARTITIONINGS
    assert way.resource in RESOURCES


def test_only_under_mps_does_the_plugin_mount_shared_memory() -> None:
    assert NODE_SLICES.mounts_shared_memory == {SharingMode.MPS}
    assert WHOLE_GPUS.mounts_shared_memory == set()


def test_only_mps_needs_a_control_daemon() -> None:
    found = [daemon_of(one) for one in (UNSHARED, SLICED_2, MPS_4)]
    assert [one.part if one else None for one in found] == [None, None, "mps-control-daemon"]


@pytest.mark.parametrize("slice_class", [MPS_4, SLICED_2])
def test_a_class_label_reads_back(slice_class: SliceClass) -> None:
    assert class_of_label(slice_class.label) == slice_class


@pytest.mark.parametrize("label", [None, "", "none", "none-1", "mps", "mps-0", "mps-x", "timeslicing-2", "cake-2"])
def test_a_label_that_we_do_not_write_is_no_class(label: str | None) -> None:
    assert class_of_label(label) is None


@pytest.mark.parametrize(
    ("strategy", "replicas", "shown"),
    [
        ("mps", "4", MPS_4),
        ("time-slicing", "2", SLICED_2),
        ("none", "1", UNSHARED),
        ("none", "3", UNSHARED),
        ("mps", "0", None),
        ("mps", "many", None),
        ("cake", "2", None),
    ],
)
def test_feature_discovery_shows_a_class(strategy: str, replicas: str, shown: SliceClass | None) -> None:
    assert shown_class({STRATEGY_LABEL: strategy, REPLICAS_LABEL: replicas}) == shown


def test_a_device_id_names_its_gpu() -> None:
    assert [gpu_of_device(one) for one in ("GPU-1::3", "GPU-1", "")] == ["GPU-1", "GPU-1", ""]


@pytest.mark.parametrize(
    ("major", "minor", "capability"),
    [("9", "0", (9, 0)), ("7", None, (7, 0)), (None, None, (8, 0)), ("x", "0", None)],
)
def test_the_compute_capability_is_read(
    major: str | None, minor: str | None, capability: tuple[int, int] | None
) -> None:
    said = {"nvidia.com/gpu.compute.major": major, "nvidia.com/gpu.compute.minor": minor}
    assert compute_capability({name: value for name, value in said.items() if value is not None}) == capability


def test_only_opted_in_nodes_of_the_product_are_allowed() -> None:
    assert nodes_allowed({"zone": "a"}, None, names.OPT_IN_LABEL) == {"zone": "a", names.OPT_IN_LABEL: "true"}
    assert nodes_allowed({}, "H100", names.OPT_IN_LABEL) == {
        names.OPT_IN_LABEL: "true",
        "nvidia.com/gpu.product": "H100",
    }
