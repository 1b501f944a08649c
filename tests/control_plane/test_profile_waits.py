"""A profile waits, loses its GPU and is tried again: with the real Job controller, scheduler and quota.

Time passes by the operator's clock (libfaketime), which is all that a pause knows; kwok plays the kubelets, and where a pod
is to hold its GPU, the node is nobody's.
"""

import json
from typing import Any

import pytest

from tests.control_plane.gpu_fleet import GPU, slm_profile
from tests.control_plane.operator_process import wait_until
from tests.control_plane.profile_stage import Stage
from tests.hostile_log import line, result

pytestmark = pytest.mark.control_plane


def test_after_a_month_without_a_gpu_the_profile_is_measured(stage: Stage) -> None:
    stage.measures("waits", "late")
    with stage.works():
        since = stage.said("waits", "WaitingForGPU")["waitingSince"]
        job = stage.get("job/waits")
        assert "activeDeadlineSeconds" not in job["spec"]
        assert job["spec"]["template"]["spec"]["activeDeadlineSeconds"] == 45 * 60
    stage.set_clock("+30d")  # NB: the API server's certificate is of one year
    with stage.works():
        stage.apply(slm_profile("imported"))
        stage.said("imported", "Imported")  # by then this operator has looked at all of them
        status = stage.said("waits", "WaitingForGPU")
        assert (status["waitingSince"], status["phase"]) == (since, "Pending")
        assert {one["type"]: one["status"] for one in status["conditions"]}["Reconciling"] == "True"
        stage.plane.write_pod_log(result())
        stage.adds_node("late")
        measured = stage.said("waits", "Measured")
    assert "tries" not in measured
    assert stage.get("slmp/waits")["metadata"]["generation"] == 1


def test_a_pre_empted_profile_is_tried_again_when_a_person_asks(stage: Stage) -> None:
    stage.adds_node_of_nobody("held", like=stage.adds_node("other"))
    stage.plane.write_pod_log(line(event="phase", phase="Measuring", message="B = 8", gpuSeconds=60.0))
    stage.measures("gives-way", "held")
    with stage.works():
        pod = wait_until(lambda: next((one for one in stage.pods() if "nodeName" in one["spec"]), None))
        assert (pod["spec"]["priority"], pod["spec"]["preemptionPolicy"]) == (-10, "Never")
        name = pod["metadata"]["name"]
        stage.runs(name)
        stage.said("gives-way", "Measuring")
        wait_until(
            lambda: stage.get("slmp/gives-way")["status"].get("gpuSeconds") == 60
        )  # its log is read a moment later
        stage.apply(replica("held"))
        wait_until(lambda: "PreemptionByScheduler" in json.dumps(stage.get(f"pod/{name}")))
        stage.kubectl("patch", f"pod/{name}", "--subresource=status", "--type=merge", "-p", ENDED)
        stage.kubectl("delete", f"pod/{name}", "--force", "--grace-period=0", "--wait=false")
        tries = stage.said("gives-way", "AwaitingRetry")["tries"]
        assert (tries["lastEnding"], tries["count"], tries["gpuSeconds"]) == ("Preempted", 1, 60)
        wait_until(lambda: not stage.jobs())
        stage.kubectl("annotate", "slmp/gives-way", "slm-operator.io/retry=now", "--overwrite")
        stage.said("gives-way", "WaitingForGPU")  # it pre-empts nobody
        stage.plane.write_pod_log(result())
        stage.adds_node("held", prefix="free")
        assert stage.said("gives-way", "Measured")["gpuSeconds"] >= 60


def test_a_namespace_is_measured_once_it_has_quota(stage: Stage) -> None:
    stage.adds_node("bounded")
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}}
    stage.apply(quota | {"spec": {"hard": {"requests.nvidia.com/gpu": "0", "count/jobs.batch": "0"}}})
    stage.set_clock("+1h")
    stage.plane.write_pod_log(result())
    stage.measures("bounded", "bounded")
    with stage.works():
        stage.said("bounded", "Refused")
        stage.apply(quota | {"spec": {"hard": {"requests.nvidia.com/gpu": "0"}}})
        status = stage.said("bounded", "NoPod")
        assert {one["type"] for one in status["conditions"]} == {"Ready", "Reconciling", "Profiled"}
        stage.kubectl("delete", "resourcequota/none")
        stage.said("bounded", "Measured")


ENDED = json.dumps({"status": {"phase": "Failed"}})


def replica(pool: str) -> dict[str, Any]:
    """Somebody's replica with a whole GPU, of higher priority."""
    container = {"name": "engine", "image": "none", "resources": {"limits": {GPU: "1"}}}
    spec = {"containers": [container], "nodeSelector": {"pool": pool}, "priorityClassName": "replicas"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "replica"}, "spec": spec}
