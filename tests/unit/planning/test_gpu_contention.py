"""One GPU wanted twice, by a profile and by replicas that serve: when that is said, to whom, and what would help."""

from dataclasses import replace
from typing import Any

import pytest
from slm_operator.api import names
from slm_operator.planning.actions import WriteStatus
from slm_operator.planning.profile.plan import plan_profile
from slm_operator.planning.views import ProfileView
from slm_operator.settings import Settings
from slm_operator.watch.records import NodeRecord, Owner, PodRecord, Taint

from tests import builders as build

PROFILE = build.profile(build.deployment())
JOB = build.job(PROFILE)
UNPLACED = build.measuring(JOB, node=None, phase="Pending", unscheduled_because="0/1 nodes are available")


def waits(*nodes: NodeRecord, pods: tuple[PodRecord, ...] = (), **more: Any) -> ProfileView:
    return ProfileView(profile=PROFILE, **({"job": JOB, "pod": UNPLACED, "nodes": nodes, "gpu_pods": pods} | more))


def status(view: ProfileView, settings: Settings = build.SETTINGS, seconds: float = 0) -> dict[str, Any]:
    (write,) = (
        one for one in plan_profile(view, settings, build.later(seconds)).actions if isinstance(one, WriteStatus)
    )
    return dict(write.status)


def said(view: ProfileView, settings: Settings = build.SETTINGS, seconds: float = 0) -> tuple[str, str]:
    """Reason and message of Profiled."""
    found = status(view, settings, seconds)["conditions"]
    (profiled,) = (one for one in found if one["type"] == "Profiled")
    return profiled["reason"], profiled["message"]


def engine(name: str, node: str = "gpu-1", **more: Any) -> PodRecord:
    """A replica with a whole GPU."""
    return build.replica(name, node, **more, gpu_requests={names.NVIDIA_GPU: 1})


def ending(pod: PodRecord) -> PodRecord:
    return replace(pod, meta=replace(pod.meta, deleting=True))


def made_by(pod: PodRecord, owner: Owner) -> PodRecord:
    return replace(pod, meta=replace(pod.meta, owners=(owner,)))


GPU, OTHER, TWO = build.node(), build.node("gpu-2"), build.node("gpu-2", gpus=2)
ENGINE, TRAINING = engine("chat-1"), build.foreign("training", "gpu-2")
CHANGING = build.node("gpu-2", labels={}, taints=(Taint(key=names.CHANGING_TAINT),))
HELD = {
    "a whole GPU": waits(GPU, pods=(ENGINE,)),
    "slices that we made": waits(build.partitioned_node(), pods=(build.replica("chat-1"), build.replica("chat-2"))),
    "both": waits(build.partitioned_node(), OTHER, pods=(build.replica("chat-1"), engine("chat-2", "gpu-2"))),
    "all GPUs of a node": waits(TWO, pods=(engine("chat-1", "gpu-2"), engine("chat-2", "gpu-2"))),
    "one of two nodes, and the other is cordoned": waits(
        GPU, replace(OTHER, unschedulable=True), pods=(ENGINE, TRAINING)
    ),
    "one of two nodes, and the other is tainted": waits(
        GPU, replace(OTHER, taints=(Taint(key="dedicated"),)), pods=(ENGINE,)
    ),
    "one of two nodes, and the other has no GPU": waits(GPU, replace(OTHER, allocatable={}), pods=(ENGINE,)),
    "one of two nodes, and others sliced the other": waits(
        GPU, build.partitioned_node("gpu-2", requested="theirs", annotations={}), pods=(ENGINE,)
    ),
}
NOT_HELD = {
    "nothing is opted in": waits(),
    "somebody's training ends some day": waits(GPU, OTHER, pods=(ENGINE, TRAINING)),
    "somebody's training has a GPU beside a replica": waits(TWO, pods=(TRAINING, engine("chat-1", "gpu-2"))),
    "somebody's pod has a slice beside a replica": waits(
        build.partitioned_node(), pods=(build.replica("chat-1"), build.foreign("notebook"))
    ),
    "another profile is measured": waits(GPU, OTHER, pods=(ENGINE, build.measuring(JOB, node="gpu-2"))),
    "a node is being given back": waits(GPU, CHANGING, pods=(ENGINE,)),
    "a replica is ending": waits(GPU, pods=(ending(ENGINE),)),
    "a GPU is to spare": waits(GPU, TWO, pods=(ENGINE, engine("chat-2", "gpu-2"))),
    "slices have no replica yet": waits(build.partitioned_node()),
    "slices are whoever's, and others made them": waits(
        build.partitioned_node(requested="theirs", annotations={}), pods=(build.replica("chat-1"),)
    ),
    "a label is all that makes it a replica": waits(GPU, pods=(made_by(ENGINE, Owner("StatefulSet", "x", "uid-x")),)),
}


@pytest.mark.parametrize("view", HELD.values(), ids=HELD)
def test_profile_and_replicas_want_the_same_gpu_where_they_hold(view: ProfileView) -> None:
    reason, message = said(view)
    assert reason == "GPUHeldByReplicas"
    assert "held by replica team/chat-1" in message
    assert "profile and replicas want the same GPUs at once" in message
    assert "kubectl scale slmd chat --namespace team --replicas=0" in message
    assert "kubectl label node NODE slm-operator.io/managed=true" in message
    assert "kubectl slm profile import" in message


@pytest.mark.parametrize("view", NOT_HELD.values(), ids=NOT_HELD)
def test_profile_only_waits_for_a_gpu_where(view: ProfileView) -> None:
    reason, message = said(view)
    assert reason == "WaitingForGPU"
    assert "at once" not in message


def test_a_profile_behind_replicas_waits_and_keeps_since_when() -> None:
    first = status(HELD["a whole GPU"])
    known = replace(HELD["a whole GPU"], profile=replace(PROFILE, status=first))
    assert status(known, seconds=3600) == first
    assert {one["type"] for one in first["conditions"]} == {"Ready", "Reconciling", "Profiled"}


THEIRS = waits(GPU, OTHER, pods=(engine("llama-1", of="llama", namespace="others"), engine("chat-1", "gpu-2")))


def test_replicas_of_other_namespaces_are_counted_and_not_named() -> None:
    reason, message = said(THEIRS)
    assert reason == "GPUHeldByReplicas"
    assert "held by replica team/chat-1, a replica of another namespace" in message
    assert "llama" not in message


def test_replicas_of_others_alone_are_for_their_owner_to_scale() -> None:
    _, message = said(waits(GPU, pods=THEIRS.gpu_pods[:1]))
    assert "llama" not in message
    assert "kubectl scale slmd NAME --replicas=0, which is for the owner of one of them to do" in message


def test_administrator_may_have_others_replicas_named() -> None:
    tenancy = build.SETTINGS.tenancy.model_copy(update={"names_of_others": True})
    _, message = said(THEIRS, build.SETTINGS.model_copy(update={"tenancy": tenancy}))
    assert "replica others/llama-1, replica team/chat-1" in message
    assert "kubectl scale slmd NAME --replicas=0" in message


def test_a_deployment_whose_label_is_a_hash_is_not_named_by_it() -> None:
    _, message = said(waits(GPU, pods=(engine("chat-1", of="chat-x0123456789"),)))
    assert "kubectl scale slmd NAME --replicas=0" in message


def test_many_replicas_in_the_way_are_named_only_in_part() -> None:
    fleet = [f"gpu-{number}" for number in range(40)]
    _, message = said(waits(*map(build.node, fleet), pods=tuple(engine(f"chat-{name}", name) for name in fleet)))
    assert "replica team/chat-gpu-12 and 35 more" in message
    assert message.count("replica team/") == 5


OLD_JOB = replace(JOB, created=build.NOW.isoformat())


@pytest.mark.parametrize(
    ("pods", "command"),
    [
        ((engine("chat-1"), engine("llama-1", of="llama", namespace="others")), "slmd chat --namespace team"),
        ((build.replica("chat-1"), build.foreign("training")), "slmd NAME"),
    ],
    ids=["whole GPUs, which it counts", "slices, which it does not"],
)
def test_a_quota_that_profile_and_replicas_share_is_explained(pods: tuple[PodRecord, ...], command: str) -> None:
    reason, message = said(waits(pods=pods, job=OLD_JOB, pod=None), seconds=60)
    assert reason == "NoPod"
    assert "kubectl describe quota --namespace team" in message
    assert "profile and replicas need the same one at once" in message
    assert f"kubectl scale {command} --replicas=0" in message
    assert "kubectl slm profile import" in message
    assert "llama" not in message
