"""Devices, advice and MPS limits as functions of configuration and GPUs."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.standin import mps
from tests.standin.config import ConfigError, PluginConfig, Policy, Sharing
from tests.standin.devices import Offer, RequestRefusedError, allocate, offer, prefer
from tests.standin.labels import feature_labels
from tests.standin.settings import Gpu, Hardware

A, B, C = (Gpu(index, f"GPU-{name}", 24_576) for index, name in enumerate("abc"))
SHARED_4 = Sharing("time-slicing", 4, renamed=True)


def shared(policy: Policy, *gpus: Gpu) -> Offer:
    return offer(PluginConfig(SHARED_4, policy), gpus)


@pytest.mark.parametrize(
    ("policy", "taken", "expected"),
    [
        pytest.param("distributed", [], "GPU-a::0", id="empty-node-starts-at-the-first-gpu"),
        pytest.param("distributed", ["GPU-a::0"], "GPU-b::0", id="distributed-takes-the-emptiest"),
        pytest.param("packed", ["GPU-b::0"], "GPU-b::1", id="packed-takes-the-fullest"),
        pytest.param(
            "packed", [f"GPU-b::{n}" for n in range(4)] + ["GPU-c::2"], "GPU-c::0", id="packed-takes-one-with-room"
        ),
    ],
)
def test_the_gpu_that_the_next_slot_is_advised_on(policy: Policy, taken: list[str], expected: str) -> None:
    offered = shared(policy, A, B, C)
    free = [device.id for device in offered.devices if device.id not in taken]
    assert prefer(offered, free, [], 1) == [expected]


@pytest.mark.parametrize(
    ("policy", "expected"), [("distributed", ["a", "b", "c", "a"]), ("packed", ["a", "a", "a", "a"])]
)
def test_slots_advised_one_after_the_other(policy: Policy, expected: list[str]) -> None:
    offered = shared(policy, A, B, C)
    free = [device.id for device in offered.devices]
    chosen = prefer(offered, free, [], 4)
    assert [device.partition("::")[0].removeprefix("GPU-") for device in chosen] == expected


def test_advice_keeps_what_must_be_included() -> None:
    offered = shared("distributed", A, B)
    assert prefer(offered, [device.id for device in offered.devices], ["GPU-b::3"], 2) == ["GPU-b::3", "GPU-a::0"]


def test_no_advice_for_more_than_there_is() -> None:
    with pytest.raises(RequestRefusedError, match="not enough available devices"):
        prefer(shared("packed", A), ["GPU-a::0"], [], 2)


def test_whole_gpus_are_granted_together() -> None:
    offered = offer(PluginConfig(), (A, B))
    assert allocate(offered, ["GPU-a", "GPU-b"]).envs == {"NVIDIA_VISIBLE_DEVICES": "GPU-a,GPU-b"}


def test_two_slots_are_granted_where_nothing_forbids_it() -> None:
    assert allocate(shared("packed", A), ["GPU-a::0", "GPU-a::1"]).envs == {"NVIDIA_VISIBLE_DEVICES": "GPU-a,GPU-a"}


def test_a_device_of_a_former_configuration_is_unknown() -> None:
    with pytest.raises(RequestRefusedError) as refused:
        allocate(shared("packed", A), ["GPU-a::7"])
    assert str(refused.value) == (
        'invalid allocation request for "nvidia.com/gpu.shared": invalid request: unknown device: GPU-a::7'
    )


def test_limits_are_cut_to_whole_mib_and_per_cent() -> None:
    config = PluginConfig(Sharing("mps", 3, renamed=True))
    assert mps.control_commands(config, (replace(A, memory_mib=24_564 + 1),)) == (
        "set_default_device_pinned_mem_limit 0 8188M",
        "set_default_active_thread_percentage 33",
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


def test_a_node_without_gpus_has_a_timestamp_only() -> None:
    assert feature_labels(PluginConfig(), Hardware(count=0), timestamp_s=7) == {"nvidia.com/gfd.timestamp": "7"}


def test_hardware_from_the_environment() -> None:
    env = {"GPU_COUNT": "2", "GPU_PRODUCT": "NVIDIA L4", "GPU_MEMORY_MIB": "23034", "GPU_FAMILY": ""}
    assert Hardware.from_env(env) == Hardware(count=2, product="NVIDIA L4", memory_mib=23_034)


def test_uuids_of_a_node_stay_and_differ_between_nodes() -> None:
    ids = [gpu.uuid for name in ("one", "two") for gpu in Hardware(count=2).gpus(name)]
    assert ids == [gpu.uuid for name in ("one", "two") for gpu in Hardware(count=2).gpus(name)]
    assert len(set(ids)) == 4
    assert all(len(f"{uuid}::47") <= 63 for uuid in ids)  # the kubelet's limit


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
