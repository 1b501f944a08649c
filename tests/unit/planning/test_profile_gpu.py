"""Which GPU a profile is sent to: alone on a node before beside others, and never in the way of a change if it can be helped."""

from dataclasses import replace
from typing import Any

import pytest
from slm_operator.api.profile import GpuSpec, SearchSpec
from slm_operator.manifests.profile import profile_args
from slm_operator.planning.actions import Apply, WriteStatus
from slm_operator.planning.profile.gpu import gpu_wait, preferences
from slm_operator.planning.profile.plan import plan_profile
from slm_operator.planning.profile.room import place
from slm_operator.planning.views import ProfileView
from slm_operator.watch.records import NodeRecord, PodRecord, Taint

from tests import builders as build

H100 = GpuSpec.model_validate({"product": "NVIDIA-H100-80GB-HBM3"})


def gpu_node(name: str, gpus: int = 1, labels: dict[str, str] | None = None, **more: object) -> NodeRecord:
    return build.node(name, gpus=gpus, labels={"kubernetes.io/hostname": f"host-{name}"} | (labels or {}), **more)


def asked(*nodes: NodeRecord, pods: tuple[PodRecord, ...] = (), changing: tuple[str, ...] = ()) -> ProfileView:
    record = build.profile(build.deployment())
    return ProfileView(profile=record, nodes=nodes, gpu_pods=pods, about_to_change=frozenset(changing))


IDLE, OTHER = gpu_node("a"), gpu_node("b")
TWO = gpu_node("two", gpus=2)
WHOLE_ENGINE = build.replica("chat-1", "two", gpu_requests={"nvidia.com/gpu": 1})
WISHES = {
    "nobody's nodes": (asked(IDLE, OTHER), {100: ("host-a", "host-b")}),
    "beside an engine of ours": (asked(IDLE, TWO, pods=(WHOLE_ENGINE,)), {100: ("host-a",), 50: ("host-two",)}),
    "beside somebody's training": (asked(TWO, pods=(build.foreign("training", "two"),)), {50: ("host-two",)}),
    "about to be changed": (asked(IDLE, OTHER, changing=("a",)), {100: ("host-b",)}),
    "the only one, about to be changed": (asked(IDLE, changing=("a",)), {}),
    "its GPU is held": (asked(IDLE, pods=(build.foreign("training", "a"),)), {}),
    "partitioned into slices": (asked(build.node(slice_class=build.MPS_2)), {}),
    "cordoned": (asked(replace(IDLE, unschedulable=True)), {}),
    "tainted": (asked(replace(IDLE, taints=(Taint(key="dedicated"),))), {}),
    "without a hostname": (asked(build.node()), {}),
}


@pytest.mark.parametrize(("view", "wishes"), WISHES.values(), ids=WISHES)
def test_profile_pod_prefers_nodes(view: ProfileView, wishes: dict[int, tuple[str, ...]]) -> None:
    assert {one.weight: one.hostnames for one in preferences(view, H100, build.SETTINGS)} == wishes


def test_only_so_many_nodes_are_named() -> None:
    (wish,) = preferences(asked(*(gpu_node(f"n{number}") for number in range(200))), H100, build.SETTINGS)
    assert len(wish.hostnames) == 50


def test_a_node_with_a_gpu_to_spare_is_not_called_held() -> None:
    said = gpu_wait(asked(TWO, pods=(WHOLE_ENGINE,)), H100, build.SETTINGS)
    assert "something else keeps the pod away" in said


def engines_of(job: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
    """How many engines a Job measures, and what its container requests."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    words = container["args"]
    named = [
        words[words.index(flag) + 1] if flag in words else "-"
        for flag in ("--engines-per-gpu", "--max-engines-per-gpu")
    ]
    return named, container["resources"]["requests"]


ROOM = [
    ("a node that does not say", {}, {}, ["-", "4"], "9", ""),
    ("room for all", {"cpus": 32.0, "memory_bytes": 128 << 30}, {}, ["-", "4"], "9", ""),
    ("few CPUs", {"cpus": 8.0, "memory_bytes": 128 << 30}, {}, ["-", "3"], "7", ", for at most 3 engines a GPU and not 4"),
    ("little memory", {"cpus": 32.0, "memory_bytes": 16 << 30}, {}, ["-", "1"], "3", "request 2 of cpu and 8Gi of memory"),
    ("a number that was asked for", {"cpus": 8.0, "memory_bytes": 128 << 30}, {"engines_per_gpu": 6}, ["3", "3"], "7", "not 6"),
]  # fmt: skip


@pytest.mark.parametrize("case", ROOM, ids=[case[0] for case in ROOM])
def test_no_larger_pack_is_measured_than_a_node_can_hold(
    case: tuple[str, dict[str, Any], dict[str, Any], list[str], str, str],
) -> None:
    _, room, search, engines, cpu, said = case
    view = asked(replace(IDLE, **room), build.node("of-others", meta=build.meta("of-others", ""), cpus=999.0))
    assert view.profile.spec is not None
    spec = view.profile.spec.model_copy(update={"search": SearchSpec(**search)})
    plan = plan_profile(replace(view, profile=replace(view.profile, spec=spec)), build.SETTINGS, build.NOW)
    (apply,) = (action for action in plan.actions if isinstance(action, Apply))
    found, requests = engines_of(apply.manifest)
    assert (found, requests["cpu"]) == (engines, cpu)
    (write,) = (action for action in plan.actions if isinstance(action, WriteStatus))
    message = write.status["conditions"][0]["message"]
    assert said in message
    assert bool(said) == ("for at most" in message)


def device_words(*nodes: NodeRecord, device: str = "Gpu") -> list[str]:
    settings = build.SETTINGS.model_copy(
        update={"profiling": build.SETTINGS.profiling.model_copy(update={"device": device})}
    )
    where = place(asked(*nodes), H100, settings)
    spec = build.profile_spec({"model": {"uri": "hf://org/opt"}})
    words = profile_args(spec, "opt", where)
    flags = ("--device", "--gpu-memory-bytes")
    return [words[words.index(flag) + 1] if flag in words else "-" for flag in flags]


def test_the_runtime_is_told_the_memory_that_all_nodes_promise() -> None:
    smaller = gpu_node("c", labels={"nvidia.com/gpu.memory": "40960"})
    unlabelled = replace(OTHER, meta=replace(OTHER.meta, labels={**OTHER.meta.labels, "nvidia.com/gpu.memory": "much"}))
    assert device_words(IDLE, OTHER) == ["gpu", str(80 << 30)]
    assert device_words(IDLE, smaller) == device_words(unlabelled) == device_words() == ["gpu", "-"]


def test_stand_ins_for_gpus_are_measured_as_what_they_are() -> None:
    assert device_words(device="Cpu") == ["cpu", "-"]


CORDONED = replace(gpu_node("c"), unschedulable=True)
WOULD_DO = {
    "one that somebody holds": (asked(IDLE, pods=(build.foreign("training", "a"),)), "becomes free on a would do"),
    "two": (
        asked(IDLE, OTHER, pods=(build.foreign("training", "a"), build.foreign("tests", "b"))),
        "becomes free on a, b would do",
    ),
    "none": (asked(CORDONED, build.node(slice_class=build.MPS_2)), None),
    "first what would do": (
        asked(CORDONED, OTHER, pods=(build.foreign("training", "b"),)),
        "node b has its GPU held by a pod of another namespace; node c is cordoned. A GPU that becomes free on b would do",
    ),
}


@pytest.mark.parametrize(("view", "words"), WOULD_DO.values(), ids=WOULD_DO)
def test_profile_wait_names_whose_gpu_would_do(view: ProfileView, words: str | None) -> None:
    said = gpu_wait(view, H100, build.SETTINGS)
    assert (words or "would do") in said if words is not None else "would do" not in said
