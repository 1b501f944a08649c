"""What the pod of a profile is given: what replicas get for each engine that it may run at once, and its own."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slm_core.units import GIB
from slm_operator.api.profile import SLMProfileSpec
from slm_operator.manifests.profile import Where, profile_args, profile_job, profile_spec
from slm_operator.manifests.profile_key import profile_key
from slm_operator.manifests.resources import Room, engine_resources, engines_that_fit, pack_resources
from slm_operator.quantity import amount
from slm_operator.watch.records import ProfileRecord

from tests import builders as build

GPU = "nvidia.com/gpu"
MODEL = {"uri": "hf://org/opt"}
HERE = Where(opt_in_label="slm-operator.io/managed")


def container(**spec: Any) -> dict[str, Any]:
    read = SLMProfileSpec.model_validate({"model": MODEL} | spec)
    record = ProfileRecord(meta=build.meta("opt-0123"), spec=read)
    job = profile_job(record, read, build.SETTINGS, HERE)
    (found,) = job["spec"]["template"]["spec"]["containers"]
    return dict(found)


def by_hand(**resources: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "engine", "resources": resources}]}}


PACKS = [
    ({"enginesPerGpu": 1}, "3", "9Gi"),
    ({"mode": "Exclusive"}, "3", "9Gi"),
    ({"enginesPerGpu": 2}, "5", "17Gi"),
    ({}, "9", "33Gi"),  # four at most, where nobody says
    ({"enginesPerGpu": 4}, "9", "33Gi"),
    ({"maxEnginesPerGpu": 48}, "97", "385Gi"),
]


@pytest.mark.parametrize(("search", "cpu", "memory"), PACKS, ids=str)
def test_the_profile_gets_what_its_largest_pack_needs(search: dict[str, Any], cpu: str, memory: str) -> None:
    amounts = {"cpu": cpu, "memory": memory, GPU: "1"}
    assert container(search=search)["resources"] == {"requests": amounts, "limits": amounts}


@given(cpus=st.sampled_from(["1", "2", "4500m", "12"]), memory=st.integers(1, 512), engines=st.integers(1, 48))
def test_profile_pod_has_each_engines_resources_and_its_own(cpus: str, memory: int, engines: int) -> None:
    replica = engine_resources(GPU, by_hand(requests={"cpu": cpus, "memory": f"{memory}Gi"}, limits={"cpu": cpus}))
    made = pack_resources(replica, engines)
    for part in ("requests", "limits"):
        cpu, one = amount(made[part]["cpu"]), amount(replica[part]["cpu"])
        assert cpu is not None
        assert one is not None
        assert cpu >= engines * one + 1


def test_resources_by_hand_are_those_of_one_engine() -> None:
    hand = by_hand(requests={"cpu": "50m", "memory": "64Mi"}, limits={"memory": "4Gi", "cpu": None})
    made = container(search={"enginesPerGpu": 2}, podTemplate=hand)["resources"]
    assert made["requests"] == {"cpu": "150m", "memory": "192Mi", GPU: "1"}
    assert made["limits"] == {"memory": "9Gi", GPU: "1"}


@pytest.mark.parametrize("text", ["two", "", "-1", None], ids=str)
def test_a_quantity_that_is_none_is_left_to_the_api_server(text: str | None) -> None:
    made = container(podTemplate=by_hand(limits={"cpu": text}))["resources"]["limits"]
    assert made.get("cpu") == text


def test_runtime_is_told_replica_resources_and_expected_gpu() -> None:
    spec = SLMProfileSpec.model_validate({"model": MODEL, "gpu": {"product": "NVIDIA-L4"}})
    words = profile_args(spec, "opt", Where(opt_in_label="x", gpu_memory_bytes=24 * GIB))
    told = dict(zip(words[1::2], words[2::2], strict=False))
    assert told["--device"] == "gpu"
    assert (told["--gpu-product"], told["--gpu-memory-bytes"]) == ("NVIDIA-L4", str(24 * GIB))
    assert (told["--cpus-per-engine"], told["--host-memory-per-engine-bytes"]) == ("2", str(8 * GIB))


def test_without_a_limit_of_replicas_no_engine_is_held() -> None:
    spec = SLMProfileSpec.model_validate({"model": MODEL, "podTemplate": by_hand(limits={"cpu": None})})
    assert "--cpus-per-engine" not in profile_args(spec, "opt", HERE)


REPLICA = engine_resources(GPU, {})
ROOMS = [
    ("nothing is known", [], 4),
    ("a node that does not say", [Room(cpus=0, memory_bytes=0)], 4),
    ("room for all", [Room(cpus=96, memory_bytes=512 * GIB)], 4),
    ("few CPUs", [Room(cpus=8, memory_bytes=512 * GIB)], 3),
    ("what all request and nothing for daemons", [Room(cpus=9, memory_bytes=512 * GIB)], 3),
    ("little memory", [Room(cpus=96, memory_bytes=30 * GIB)], 3),
    ("memory that daemons share", [Room(cpus=96, memory_bytes=34 * GIB)], 3),
    ("a small node beside a large one", [Room(cpus=4, memory_bytes=16 * GIB), Room(cpus=8, memory_bytes=64 * GIB)], 3),
    ("no room at all", [Room(cpus=1, memory_bytes=GIB)], 1),
]


@pytest.mark.parametrize(("name", "rooms", "fitting"), ROOMS, ids=[case[0] for case in ROOMS])
def test_a_pack_is_no_larger_than_the_roomiest_node_can_hold(name: str, rooms: list[Room], fitting: int) -> None:
    assert engines_that_fit(REPLICA, 4, rooms) == fitting


ASKED: list[tuple[dict[str, Any], int]] = [
    ({"limits": {"cpu": "8"}, "requests": {"cpu": "2"}}, 4),
    ({"limits": {"cpu": "8"}}, 2),
    ({"requests": {"cpu": "8"}}, 2),
    ({"limits": {"cpu": "8", "memory": "64Gi"}, "requests": {"cpu": "2"}}, 1),
    ({}, 4),
]


@pytest.mark.parametrize(("engine", "fitting"), ASKED, ids=str)
def test_a_limit_is_a_request_where_no_other_is_made(engine: dict[str, Any], fitting: int) -> None:
    assert engines_that_fit(engine, 4, [Room(cpus=20, memory_bytes=128 * GIB)]) == fitting


def test_only_resources_given_by_hand_enter_the_key_of_a_profile() -> None:
    def key(**spec: Any) -> str:
        return profile_key(profile_spec(build.deployment_spec({"model": MODEL} | spec)))

    for sharing in ({"enginesPerGpu": 4}, {"maxEnginesPerGpu": 48}):
        assert key(sharing=sharing) == key()
    given = key(podTemplate=by_hand(limits={"cpu": "16"}))
    assert given == key(podTemplate=by_hand(limits={"cpu": "16000m"}))
    assert given not in {key(), key(podTemplate=by_hand(limits={"cpu": "8"}))}
