"""Which GPU a profile is sent to: alone on a node before beside others, and never in the way of a change if it can be helped."""

from dataclasses import replace

import pytest
from slm_operator.api.profile import GpuSpec
from slm_operator.planning.profile.gpu import gpu_wait, preferences
from slm_operator.planning.views import ProfileView
from slm_operator.watch.records import NodeRecord, PodRecord, Taint

from . import worlds as w

H100 = GpuSpec.model_validate({"product": "NVIDIA-H100-80GB-HBM3"})


def gpu_node(name: str, gpus: int = 1, **more: object) -> NodeRecord:
    return w.node(name, gpus=gpus, labels={"kubernetes.io/hostname": f"host-{name}"}, **more)


def asked(*nodes: NodeRecord, pods: tuple[PodRecord, ...] = (), changing: tuple[str, ...] = ()) -> ProfileView:
    record = w.profile(w.deployment())
    return ProfileView(profile=record, nodes=nodes, gpu_pods=pods, about_to_change=frozenset(changing))


IDLE, OTHER = gpu_node("a"), gpu_node("b")
TWO = gpu_node("two", gpus=2)
WHOLE_ENGINE = replace(w.replica("chat-1", "two"), gpu_requests={"nvidia.com/gpu": 1})
WISHES = {
    "nobody's nodes": (asked(IDLE, OTHER), {100: ("host-a", "host-b")}),
    "beside an engine of ours": (asked(IDLE, TWO, pods=(WHOLE_ENGINE,)), {100: ("host-a",), 50: ("host-two",)}),
    "beside somebody's training": (asked(TWO, pods=(w.foreign("training", "two"),)), {50: ("host-two",)}),
    "about to be changed": (asked(IDLE, OTHER, changing=("a",)), {100: ("host-b",)}),
    "the only one, about to be changed": (asked(IDLE, changing=("a",)), {}),
    "its GPU is held": (asked(IDLE, pods=(w.foreign("training", "a"),)), {}),
    "partitioned into slices": (asked(w.node(slice_class=w.MPS_2)), {}),
    "cordoned": (asked(replace(IDLE, unschedulable=True)), {}),
    "tainted": (asked(replace(IDLE, taints=(Taint(key="dedicated"),))), {}),
    "without a hostname": (asked(w.node()), {}),
}


@pytest.mark.parametrize(("view", "wishes"), WISHES.values(), ids=WISHES)
def test_a_profile_would_rather_be(view: ProfileView, wishes: dict[int, tuple[str, ...]]) -> None:
    assert {one.weight: one.hostnames for one in preferences(view, H100, w.SETTINGS)} == wishes


def test_only_so_many_nodes_are_named() -> None:
    (wish,) = preferences(asked(*(gpu_node(f"n{number}") for number in range(200))), H100, w.SETTINGS)
    assert len(wish.hostnames) == 50


def test_a_node_with_a_gpu_to_spare_is_not_called_held() -> None:
    said = gpu_wait(asked(TWO, pods=(WHOLE_ENGINE,)), H100, w.SETTINGS)
    assert "something else keeps the pod away" in said


CORDONED = replace(gpu_node("c"), unschedulable=True)
WOULD_DO = {
    "one that somebody holds": (asked(IDLE, pods=(w.foreign("training", "a"),)), "becomes free on a would do"),
    "two": (
        asked(IDLE, OTHER, pods=(w.foreign("training", "a"), w.foreign("tests", "b"))),
        "becomes free on a, b would do",
    ),
    "none": (asked(CORDONED, w.node(slice_class=w.MPS_2)), None),
    "first what would do": (
        asked(CORDONED, OTHER, pods=(w.foreign("training", "b"),)),
        "node b has its GPU held by a pod of another namespace; node c is cordoned. A GPU that becomes free on b would do",
    ),
}


@pytest.mark.parametrize(("view", "words"), WOULD_DO.values(), ids=WOULD_DO)
def test_whose_gpu_would_do_is_said(view: ProfileView, words: str | None) -> None:
    said = gpu_wait(view, H100, w.SETTINGS)
    assert (words or "would do") in said if words is not None else "would do" not in said
