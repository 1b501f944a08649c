"""Where slots are advised, and what MPS and the labels say of them."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.standin import mps
from tests.standin.config import ConfigError, PluginConfig, Policy, Sharing
from tests.standin.devices import Grant, Mount, RequestRefusedError, allocate, offer, prefer
from tests.standin.labels import feature_labels
from tests.standin.settings import Gpu, Hardware


def test_device_of_a_former_configuration_is_refused() -> None:
    offered = offer(PluginConfig(Sharing("time-slicing", 4, renamed=True)), (Gpu(0, "GPU-a", 24_576),))
    with pytest.raises(RequestRefusedError) as refused:
        allocate(offered, ["GPU-a::7"])
    assert str(refused.value) == (
        'invalid allocation request for "nvidia.com/gpu.shared": invalid request: unknown device: GPU-a::7'
    )


@pytest.mark.parametrize(("capability", "most"), [("7.0", 16), ("7.5", 48), ("9.0", 48)])
def test_most_clients_of_an_mps_server(capability: str, most: int) -> None:
    mps.check_replicas(PluginConfig(Sharing("mps", most)), capability)
    with pytest.raises(ConfigError, match=f"maximum allowed replicas exceeded: {most + 1} > {most}"):
        mps.check_replicas(PluginConfig(Sharing("mps", most + 1)), capability)


def test_product_of_gpus_shared_under_their_own_name_says_so() -> None:
    config = PluginConfig(Sharing("time-slicing", 4))
    labels = feature_labels(config, Hardware(product="NVIDIA L4", compute_capability="8.9"), timestamp_s=0)
    assert labels["nvidia.com/gpu.product"] == "NVIDIA-L4-SHARED"


@given(gpus=st.integers(1, 8), replicas=st.integers(2, 8), data=st.data())
def test_distributed_levels_and_packed_fills(gpus: int, replicas: int, data: st.DataObject) -> None:
    """Slots taken one by one: distributed keeps the GPUs within one of each other, packed leaves at most one in part."""
    policy: Policy = data.draw(st.sampled_from(["distributed", "packed"]))
    pods = data.draw(st.integers(0, gpus * replicas))
    offered = offer(PluginConfig(Sharing("mps", replicas), policy), Hardware(count=gpus).gpus("node"))
    free = [device.id for device in offered.devices]
    for _pod in range(pods):
        (chosen,) = prefer(offered, free, [], 1)
        free.remove(chosen)
    left = Counter(dict.fromkeys((device.gpu for device in offered.devices), 0))
    left.update(device_id.partition("::")[0] for device_id in free)
    if policy == "distributed":
        assert max(left.values()) - min(left.values()) <= 1
    else:
        assert sum(0 < slots < replicas for slots in left.values()) <= 1


LISTS = "/var/run/nvidia-container-devices"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, Grant({"NVIDIA_VISIBLE_DEVICES": "GPU-a"})),
        ({"id_strategy": "index"}, Grant({"NVIDIA_VISIBLE_DEVICES": "3"})),
        (
            {"list_strategies": ("volume-mounts",), "id_strategy": "index"},
            Grant({"NVIDIA_VISIBLE_DEVICES": LISTS}, (Mount(f"{LISTS}/3", "/dev/null"),)),
        ),
        ({"list_strategies": ("cdi-cri",)}, Grant({}, cdi_devices=("nvidia.com/gpu=GPU-a",))),
        (
            {"list_strategies": ("cdi-annotations",)},
            Grant({}, annotations={"cdi.k8s.io/nvidia-device-plugin": "nvidia.com/gpu=GPU-a"}),
        ),
        (
            {"pass_device_specs": True, "driver_root": "/run/nvidia/driver"},
            Grant(
                {"NVIDIA_VISIBLE_DEVICES": "GPU-a"},
                device_files=(Mount("/dev/nvidia3", "/run/nvidia/driver/dev/nvidia3"),),
            ),
        ),
    ],
    ids=["variable", "by index", "mounts", "CDI", "CDI by annotation", "device files"],
)
def test_a_slot_is_given_as_the_flags_say(flags: dict[str, Any], expected: Grant) -> None:
    config = PluginConfig(Sharing("time-slicing", 2, renamed=True), **flags)
    offered = offer(config, (Gpu(3, "GPU-a", 24_576),))
    assert allocate(offered, ["GPU-a::1"]) == expected
