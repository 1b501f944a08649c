from dataclasses import replace
from typing import Any

import pytest
from slm_core.failure import Failure
from slm_core.pack_pod import Termination
from slm_operator.api import names
from slm_operator.watch import custom_resources, projection
from slm_operator.watch.applied import owned
from slm_operator.watch.pods import pod
from slm_operator.watch.records import Cause, Key, Taint

from tests import builders as build
from tests.builders import Raw, raw_meta, raw_pod, raw_replica


def test_objects_with_nothing_in_them_are_read() -> None:
    bare: Raw = {"metadata": {"name": "x"}}
    assert projection.node(bare).ready is False
    assert projection.workload(bare).replicas == 1
    assert projection.job(bare).finished is False
    assert projection.config_map(bare).data == {}
    assert owned(bare).fingerprint is None
    assert pod(bare) is None
    assert custom_resources.deployment(bare).broken is not None
    assert custom_resources.profile(bare).measurements is None


def test_a_node() -> None:
    record = projection.node(
        {
            "metadata": raw_meta(
                "n1", namespace="", labels={"a": "b"}, annotations={"x/y": "1", "slm-operator.io/change-started": "t"}
            ),
            "spec": {"unschedulable": True, "taints": [{"key": "k", "effect": "NoExecute"}]},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "capacity": {"cpu": "8", "nvidia.com/gpu": "8"},
                "allocatable": {"nvidia.com/gpu": "0", "nvidia.com/gpu.shared": "32", "cpu": "7910m", "memory": "31Gi"},
            },
        }
    )
    assert record.meta.key == Key("", "n1")
    assert (record.ready, record.unschedulable) == (True, True)
    assert record.taints == (Taint(key="k", effect="NoExecute"),)
    assert record.capacity == {"nvidia.com/gpu": 8}
    assert record.allocatable == {"nvidia.com/gpu": 0, "nvidia.com/gpu.shared": 32}
    assert (record.cpus, record.memory_bytes) == (7.91, 31 << 30)
    assert record.meta.labels == {"a": "b"}
    assert record.meta.annotations == {"slm-operator.io/change-started": "t"}


def test_annotations_below_our_group_are_kept_too() -> None:
    raw = {
        "metadata": raw_meta("c", annotations={"added.slm-operator.io/slm-mps-2": "t", "notslm-operator.org/x": "1"})
    }
    assert projection.config_map(raw).meta.annotations == {"added.slm-operator.io/slm-mps-2": "t"}


@pytest.mark.parametrize(
    ("containers", "inits", "requests"),
    [
        ([1], [], {"nvidia.com/gpu": 1}),
        ([1, 2], [], {"nvidia.com/gpu": 3}),
        ([1], [4], {"nvidia.com/gpu": 4}),
        ([], [1], {"nvidia.com/gpu": 1}),
    ],
    ids=["one", "sum of containers", "an init container needs more", "only an init container"],
)
def test_devices_a_pod_holds(containers: list[int], inits: list[int], requests: dict[str, int]) -> None:
    def asking(counts: list[int]) -> list[Raw]:
        return [{"resources": {"limits": {"nvidia.com/gpu": str(count)}}} for count in counts]

    spec = {"containers": asking(containers), "initContainers": asking(inits)}
    record = pod({"metadata": raw_meta("p"), "spec": spec})
    assert record is not None
    assert record.gpu_requests == requests


@pytest.mark.parametrize(
    ("quantity", "count"),
    [("8", 8), ("1k", 1000), (4, 4), ("", 0), ("half", 0), ("9e999", 0), ("nan", 0), ("inf", 0), (None, 0), ([], 0)],
)
def test_a_quantity_that_is_no_number_is_no_device(quantity: object, count: int) -> None:
    assert projection.amount(quantity) == count


def test_mig_slices_count_as_devices() -> None:
    limits = {"nvidia.com/mig-1g.10gb": "2"}
    record = pod({"metadata": raw_meta("p"), "spec": {"containers": [{"resources": {"limits": limits}}]}})
    assert record is not None
    assert record.gpu_requests == {"nvidia.com/mig-1g.10gb": 2}


def waits(reason: str, message: str = "") -> Raw:
    return {"state": {"waiting": {"reason": reason, "message": message}}}


def ended(code: int, reason: str = "Error", message: str = "") -> Raw:
    return {"state": {"terminated": {"exitCode": code, "reason": reason, "message": message}}}


def _said(found: object) -> object:
    return str(found) if isinstance(found, Cause) else found


@pytest.mark.parametrize(
    ("status", "field", "text"),
    [
        ({"containerStatuses": [waits("ImagePullBackOff", "not found")]}, "waiting", "ImagePullBackOff: not found"),
        ({"containerStatuses": [ended(137, "OOMKilled")]}, "terminated", "OOMKilled (exit code 137)"),
        ({"initContainerStatuses": [ended(0, "Completed")]}, "terminated", None),
        ({"initContainerStatuses": [ended(2, message="no model")]}, "terminated", "Error (exit code 2): no model"),
        (
            {"containerStatuses": [waits("CrashLoopBackOff") | {"lastState": ended(1)["state"], "restartCount": 3}]},
            "terminated",
            "Error (exit code 1)",
        ),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/2 nodes"}]},
            "unscheduled_because",
            "0/2 nodes",
        ),
        (
            {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "no free slots"},
            "failed_because",
            "UnexpectedAdmissionError: no free slots",
        ),
        (
            {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]},
            "disrupted_because",
            "PreemptionByScheduler",
        ),
        (
            {"conditions": [{"type": "DisruptionTarget", "status": "False", "reason": "PreemptionByScheduler"}]},
            "disrupted_because",
            None,
        ),
        ({"startTime": "2026-01-01T00:00:00Z"}, "accepted", "2026-01-01T00:00:00Z"),
        ({"containerStatuses": [{"state": {"running": {"startedAt": "t"}}}]}, "started", "t"),
        (
            {
                "containerStatuses": [
                    {"allocatedResourcesStatus": [{"resources": [{"resourceID": "GPU-1", "health": "Unhealthy"}]}]}
                ]
            },
            "resource_health",
            {"GPU-1": "Unhealthy"},
        ),
    ],
)
def test_pod_record_of(status: dict[str, Any], field: str, text: Any) -> None:
    record = pod(raw_pod("p", status=status))
    assert record is not None
    assert _said(getattr(record, field)) == text


def test_the_container_that_has_no_image_is_named() -> None:
    """Kubelets pull side by side: the engine's container is only starting while a user's has none."""
    starts = waits("ContainerCreating") | {"name": "engine", "image": "vllm:9"}
    fails = waits("ErrImagePull", "401") | {"name": "logs", "image": "logs:9"}
    record = pod(raw_pod("p", status={"containerStatuses": [starts, fails]}))
    assert record is not None
    assert str(record.stuck) == "container logs (logs:9): ErrImagePull: 401"
    waiting = pod(raw_pod("p", status={"containerStatuses": [starts]}))
    assert waiting is not None
    assert (waiting.stuck, waiting.waiting) == (None, Cause("ContainerCreating", container="engine", image="vllm:9"))


def test_a_cause_is_a_reason_and_a_message_each_for_itself() -> None:
    record = pod(
        raw_pod("p", status={"containerStatuses": [waits("ErrImagePull", "a: b") | {"lastState": ended(137)["state"]}]})
    )
    assert record is not None
    assert record.waiting == Cause("ErrImagePull", "a: b")
    assert record.terminated == Cause("Error", exit_code=137)
    assert record.stuck == record.waiting


def test_a_sidecar_that_ended_is_named() -> None:
    crashed = waits("CrashLoopBackOff") | {"name": "router", "lastState": ended(1)["state"], "restartCount": 3}
    record = pod(raw_pod("p", status={"initContainerStatuses": [crashed], "containerStatuses": [{"name": "engine"}]}))
    assert record is not None
    assert (record.waiting, record.terminated, record.restarts) == (
        Cause("CrashLoopBackOff", container="router"),
        Cause("Error", exit_code=1, container="router"),
        3,
    )


def test_a_pod_that_only_starts_is_not_stuck() -> None:
    record = pod(raw_pod("p", status={"containerStatuses": [waits("ContainerCreating")]}))
    assert record is not None
    assert (record.waiting, record.stuck) == (Cause("ContainerCreating"), None)


@pytest.mark.parametrize(
    ("conditions", "finished", "because"),
    [
        ([{"type": "Complete", "status": "True"}], True, None),
        ([{"type": "FailureTarget", "status": "True"}], False, None),
        (
            [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "too long"}],
            True,
            "DeadlineExceeded: too long",
        ),
    ],
)
def test_a_job(conditions: list[Raw], *, finished: bool, because: str | None) -> None:
    record = projection.job({"metadata": raw_meta("j"), "status": {"conditions": conditions}})
    assert (record.finished, _said(record.failed_because)) == (finished, because)


def test_a_pod_says_how_long_it_may_be_on_its_node() -> None:
    raw = raw_pod("p")
    raw["spec"]["activeDeadlineSeconds"] = 60
    record = pod(raw)
    assert record is not None
    assert record.deadline_seconds == 60


def test_a_pod_that_is_to_be_deleted_says_by_when() -> None:
    raw = raw_pod("p")
    raw["metadata"]["deletionTimestamp"] = "2026-01-01T00:01:00Z"
    record = pod(raw)
    assert record is not None
    assert (record.meta.deleting, record.gone_by) == (True, "2026-01-01T00:01:00Z")


RETRIES = {"1": "1", "": None, "x" * 300: "x" * 253}


@pytest.mark.parametrize(("value", "kept"), RETRIES.items(), ids=["a value", "an empty one", "a long one"])
def test_a_retry_that_is_asked_for_is_kept_of_profile_and_job(value: str, kept: str | None) -> None:
    head = raw_meta("p") | {"annotations": {"slm-operator.io/retry": value, "other": "x"}}
    profile = custom_resources.profile({"metadata": head, "spec": {"model": {"uri": "/m"}}})
    assert (profile.retry, projection.job({"metadata": head}).retry) == (kept, kept)
    assert profile.meta.annotations == {}


@pytest.mark.parametrize(("text", "kept"), [("{}", "{}"), ("x" * 20_000, None), (None, None)])
def test_a_workload_keeps_what_it_was_made_from(text: str | None, kept: str | None) -> None:
    annotated = raw_meta("w") | {"annotations": {names.SERVED_ANNOTATION: text} if text is not None else {}}
    assert projection.workload({"metadata": annotated}).served == kept


def test_a_stalled_workload_says_why() -> None:
    stalled = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}
    quota = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}
    assert (
        projection.workload({"metadata": raw_meta("w"), "status": {"conditions": [stalled]}}).stalled_because
        == "timed out"
    )
    both = projection.workload({"metadata": raw_meta("w"), "status": {"conditions": [stalled, quota]}})
    assert both.stalled_because == "exceeded quota"


def test_a_spec_that_cannot_be_read_is_said_with_its_field() -> None:
    record = custom_resources.deployment({"metadata": raw_meta("d"), "spec": {"model": {"uri": "ftp://x"}}})
    assert record.spec is None
    assert record.broken is not None
    assert record.broken.startswith("spec.model.uri: ")


def test_unreadable_measurements_are_reported_with_their_field() -> None:
    raw = {"metadata": raw_meta("p"), "spec": {"model": {"uri": "/m"}, "measurements": {"schema": "other"}}}
    record = custom_resources.profile(raw)
    assert record.imported
    assert record.measurements is None
    assert record.broken is not None
    assert record.broken.startswith("spec.measurements: schema")


def managed(time: str, manager: str, fields: Raw, operation: str = "Update", **rest: str) -> Raw:
    return {"manager": manager, "operation": operation, "time": time, "fieldsV1": fields} | rest


OURS = managed("2026-01-01T00:00:05Z", "slm-operator", {"f:spec": {"f:replicas": {}}}, "Apply")


@pytest.mark.parametrize(
    ("others", "touched"),
    [
        ([], False),
        ([managed("2026-01-01T00:00:09Z", "kubectl-edit", {"f:spec": {"f:paused": {}}})], True),
        ([managed("2026-01-01T00:00:01Z", "kubectl-edit", {"f:spec": {"f:paused": {}}})], False),
        ([managed("2026-01-01T00:00:09Z", "controller", {"f:metadata": {"f:annotations": {}}})], False),
        ([managed("2026-01-01T00:00:09Z", "controller", {"f:status": {}}, subresource="status")], False),
    ],
    ids=["nobody else", "edited since", "edited before", "annotated by a controller", "status"],
)
def test_whether_somebody_else_wrote_since(others: list[Raw], *, touched: bool) -> None:
    record = owned({"metadata": raw_meta("w", managedFields=[OURS, *others])})
    assert record.touched is touched
    assert record.fingerprint is not None


def test_the_fingerprint_changes_when_a_field_of_ours_is_taken() -> None:
    taken = OURS | {"fieldsV1": {"f:spec": {}}}
    before, after = (owned({"metadata": raw_meta("w", managedFields=[one])}).fingerprint for one in (OURS, taken))
    assert before != after


BLAME = Termination(
    reason=Failure.HOST_MEMORY, message="engine 1 has grown to 9 GiB", remedy="raise its memory", engine=1, served=2
)
LAST_WORDS: dict[str, tuple[Raw, Cause]] = {
    "an OOM, and whose it is": (
        ended(137, "OOMKilled", BLAME.text()),
        Cause("OOMKilled", BLAME.message, 137, BLAME.remedy),
    ),
    "killed by somebody while it served": (ended(137, "Error", BLAME.text()), Cause("Error", "", 137)),
    "the supervisor's own word": (
        ended(33, "Error", replace(BLAME, reason=Failure.GPU_NOT_AS_ASKED).text()),
        Cause("GpuNotAsAsked", BLAME.message, 33, BLAME.remedy),
    ),
    "an OOM after another word": (
        ended(137, "OOMKilled", replace(BLAME, reason=Failure.DIED).text()),
        Cause("OOMKilled", "", 137),
    ),
    "a message of somebody else's": (ended(1, "Error", '{"reason": 1}'), Cause("Error", '{"reason": 1}', 1)),
}


@pytest.mark.parametrize("case", LAST_WORDS)
def test_a_pack_s_last_word_is_read_where_it_counts(case: str) -> None:
    status, expected = LAST_WORDS[case]
    record = pod(raw_replica("chat-1") | {"status": {"containerStatuses": [status]}})
    assert record is not None
    assert record.terminated == expected


@pytest.mark.parametrize(
    ("words", "batch_size"),
    [
        (["--max-num-seqs", "96", "--port", "8000"], 96),
        (["--max-num-seqs", "32", "--max-num-seqs", "96"], 96),
        (["serve", "--batch-size", "24", "--", "vllm", "serve"], 24),
        (["--max-num-seqs"], None),
        (["--max-num-seqs", "0"], None),
        (["--max-num-seqs", "many"], None),
        (["--max-num-seqs", "9" * 5000], None),
        ([], None),
    ],
)
def test_batch_of_a_replica_is_what_it_was_started_with(words: list[str], batch_size: int | None) -> None:
    raw = build.raw_replica("a")
    raw["spec"]["containers"] = [{"name": "sidecar"}, {"name": "engine", "args": words}]
    assert build.read_pod(raw).batch_size == batch_size
