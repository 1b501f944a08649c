"""What is said of replicas that do not answer: which pod, why, and what helps."""

import csv
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from slm_core.measurements import SharingMode
from slm_operator.partitioning.base import SliceClass
from slm_operator.planning.deployment.availability import availability
from slm_operator.planning.deployment.gpu_spread import packs
from slm_operator.watch.records import Cause

from tests import builders as build

ONE_OF_TWO = build.workload("chat", replicas=2, ready=1)


def said(*pods: dict[str, Any], wanted: int = 2, workload: Any = ONE_OF_TWO) -> tuple[bool | None, str, str]:
    records = tuple(build.replica(f"chat-{number}", **pod) for number, pod in enumerate(pods))
    finding = availability(build.deployment_view(build.deployment(), None, workload=workload, pods=records), wanted)
    return finding.holds, finding.reason, finding.message


WELL: dict[str, Any] = {"ready": True}
OOM = Cause("OOMKilled", exit_code=137)
NVIDIAS_HOOK = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: error "
    "running prestart hook #0: exit status 1, stderr: nvidia-container-cli: requirement error: unsatisfied condition: "
    "cuda>=13.0, please update your driver to a newer version, or use an earlier cuda container: unknown"
)
STORIES: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    "killed for its memory, waits": (
        {"waiting": Cause("CrashLoopBackOff", "back-off 10s"), "terminated": OOM, "restarts": 3},
        "CrashLoopBackOff",
        ("chat-1", str(OOM), "raise its memory in spec.podTemplate"),
    ),
    "killed for its memory, loads again": (
        {"terminated": OOM, "restarts": 1},
        "EngineEnded",
        ("chat-1 starts again", str(OOM), "raise its memory"),
    ),
    "crashed, loads again": (
        {"terminated": Cause("Error", exit_code=1), "restarts": 2},
        "EngineEnded",
        ("exit code 1", "kubectl logs chat-1 --previous"),
    ),
    "its Secret is missing": (
        {"waiting": Cause("CreateContainerConfigError", 'secret "hub" not found')},
        "CreateContainerConfigError",
        ('secret "hub" not found', "spec.model.credentialsSecretRef"),
    ),
    "its image wants a newer driver": (
        {"waiting": Cause("CreateContainerError", NVIDIAS_HOOK)},
        "CreateContainerError",
        ("unsatisfied condition: cuda>=13.0", "newer NVIDIA driver", "VLLM_ENABLE_CUDA_COMPATIBILITY"),
    ),
    "its image wants a newer driver, and it starts again": (
        {"waiting": Cause("CrashLoopBackOff"), "terminated": Cause("StartError", NVIDIAS_HOOK, exit_code=128)},
        "CrashLoopBackOff",
        ("newer NVIDIA driver",),
    ),
    "its slice was refused": (
        {"phase": "Failed", "failed_because": Cause("UnexpectedAdmissionError", "no healthy device")},
        "AdmissionFailed",
        ("refused by the kubelet", "no healthy device"),
    ),
    "no room": (
        {"node": None, "unscheduled_because": "0/1 nodes are available: 1 Insufficient memory"},
        "Unschedulable",
        ("Insufficient memory",),
    ),
    "loads its model": ({"waiting": Cause("ContainerCreating")}, "Starting", ("an engine is silent",)),
}


@pytest.mark.parametrize("case", STORIES)
def test_one_of_two_does_not_answer(case: str) -> None:
    pod, reason, words = STORIES[case]
    holds, found, message = said(WELL, pod)
    assert (holds, found) == (False, reason)
    assert message.startswith("1 of 2 replicas answer")
    assert all(word in message for word in words), message


def test_an_engine_that_ended_once_and_answers_again_is_no_news() -> None:
    both = build.workload("chat", replicas=2, ready=2)
    assert said(WELL, {"ready": True, "terminated": OOM, "restarts": 1}, workload=both)[:2] == (True, "Available")


def test_a_refusing_quota_is_reported() -> None:
    stalled = replace(ONE_OF_TWO, stalled_because='pods "chat-2" is forbidden: exceeded quota')
    assert said(WELL, workload=stalled)[1:] == (
        "Stalled",
        '1 of 2 replicas answer; pods "chat-2" is forbidden: exceeded quota',
    )


GPUS: dict[str, tuple[tuple[str, ...], int, str | None]] = {
    "one pack on one GPU": (("A::0", "A::1"), 2, None),
    "one pack on two GPUs": (("A::0", "B::1"), 2, "on 2 GPUs (1 + 1) where packs of 2 need 1"),
    "three of a pack and one alone": (("A::0", "A::1", "A::2", "B::0"), 4, "on 2 GPUs (3 + 1) where packs of 4 need 1"),
    "a pack and a half": (("A::0", "A::1", "B::0"), 2, None),
    "whole GPUs": (("A", "B"), 1, None),
    "the kubelet does not tell": (("A::0", ""), 2, None),
}


@pytest.mark.parametrize("case", GPUS)
def test_uneven_placement_is_reported(case: str) -> None:
    devices, pack, words = GPUS[case]
    pods = tuple(
        build.replica(f"chat-{number}", ready=True, resource_health={device: "Healthy"} if device else {})
        for number, device in enumerate(devices)
    )
    count = len(pods)
    all_ready = build.workload("chat", replicas=count, ready=count)
    view = build.deployment_view(build.deployment(), None, workload=all_ready, pods=pods)
    shared = SliceClass(mode=SharingMode.MPS, engines_per_gpu=pack)
    finding = availability(view, count, shared)
    assert finding.holds
    assert (words in finding.message) if words else finding.message == f"{count} of {count} replicas answer"
    assert [one["engines"] for one in packs(pods)] == list(Counter(one.partition("::")[0] for one in devices).values())


def test_replica_sharing_with_fewer_is_no_slower_as_published() -> None:
    """Why an unlucky placement is reported and not corrected."""
    with (build.DATA / "replication.csv").open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["chunked_prefill"] == "off"]
    each: dict[tuple[str, str], dict[int, float]] = {}
    for row in rows:
        engines, total = int(row["replicas"]), float(row["total_tokens_per_s"])
        each.setdefault((row["model"], row["max_num_seqs"]), {})[engines] = total / engines
    shared = [speeds for speeds in each.values() if len(speeds) > 1]
    assert len(shared) == 4
    for speeds in shared:
        assert sorted(speeds.values(), reverse=True) == [speeds[engines] for engines in sorted(speeds)]


def test_deployment_of_zero_replicas_is_available() -> None:
    assert said(wanted=0)[:2] == (True, "ScaledToZero")
