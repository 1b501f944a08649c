"""A profile waits, loses its GPU and is tried again: with the real Job controller, scheduler and quota.

Time passes by the operator's clock (libfaketime), which is all that a pause knows; kwok plays the kubelets, and where a pod
is to hold its GPU, the node is nobody's.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.control_plane.gpu_fleet import GPU, MODEL, install, shown_labels, slm_profile
from tests.control_plane.operator_process import operator, wait_until
from tests.hostile_log import line, result
from tests.testbed.control_plane import ControlPlane
from tests.testbed.faketime import faketime_library
from tests.testbed.kwok_nodes import kwok_node

pytestmark = pytest.mark.control_plane
SETTINGS = "watch: {intervalSeconds: 0}\nprofiling: {priorityClassName: profiles}\n"


class Stage:
    """The plane, a namespace of it, and an operator whose clock is set by hand."""

    def __init__(self, plane: ControlPlane, namespace: str, folder: Path) -> None:
        self.plane, self.namespace = plane, namespace
        self.clock, settings = folder / "clock", folder / "settings.yaml"
        self.set_clock("+0")
        settings.write_text(SETTINGS)
        self.arguments = (f"--config={settings}",)
        self.environment = {
            "LD_PRELOAD": str(faketime_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self.clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set_clock(self, offset: str) -> None:
        self.clock.write_text(offset)

    def works(self) -> Any:
        return operator(self.plane, *self.arguments, environment=self.environment)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.plane.kubectl(*arguments, "--namespace", self.namespace, stdin=stdin)

    def get(self, what: str) -> Any:
        return json.loads(self.kubectl("get", what, "-o", "json"))

    def apply(self, body: dict[str, Any]) -> None:
        self.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(body))

    def measures(self, name: str, pool: str) -> None:
        spec = {"model": MODEL, "gpu": {"nodeSelector": {"pool": pool}}}
        head = {"apiVersion": "slm-operator.io/v1alpha1", "kind": "SLMProfile", "metadata": {"name": name}}
        self.apply(head | {"spec": spec})

    def says(self, name: str) -> tuple[str, str]:
        """Phase and reason of a profile."""
        status = self.get(f"slmp/{name}").get("status") or {}
        reasons = [one["reason"] for one in status.get("conditions", ()) if one["type"] == "Profiled"]
        return status.get("phase", ""), next(iter(reasons), "")

    def said(self, name: str, reason: str) -> dict[str, Any]:
        """Status of a profile, once it says so."""
        wait_until(lambda: self.says(name)[1] == reason)
        status: dict[str, Any] = self.get(f"slmp/{name}")["status"]
        return status

    def adds_node(self, pool: str, prefix: str = "") -> str:
        (made,) = self.plane.add_kwok_nodes(1, prefix=prefix or pool, labels=labels(pool), resources={GPU: 1})
        return made

    def adds_node_of_nobody(self, pool: str, like: str) -> None:
        """A node without a kubelet: what is placed there holds its GPU until it is ended. Logs are kwok's, as on `like`."""
        body = kwok_node(f"{pool}-held", labels(pool), {GPU: 1})
        del body["metadata"]["annotations"]
        self.plane.kubectl("create", "-f", "-", stdin=json.dumps(body))
        theirs = json.loads(self.plane.kubectl("get", f"node/{like}", "-o", "json"))["status"]
        status = body["status"] | {name: theirs[name] for name in ("addresses", "daemonEndpoints", "conditions")}
        patch = json.dumps({"status": status})
        self.plane.kubectl("patch", f"node/{pool}-held", "--subresource=status", "--type=merge", "-p", patch)


def labels(pool: str) -> dict[str, str]:
    return {"slm-operator.io/managed": "true", "pool": pool} | shown_labels("version: v1", 1)


@pytest.fixture(scope="module")
def plane(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    install(control_plane)
    kind = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass"}
    classes = [
        kind | {"metadata": {"name": "profiles"}, "value": -10, "preemptionPolicy": "Never"},
        kind | {"metadata": {"name": "replicas"}, "value": 10},
    ]
    both = {"apiVersion": "v1", "kind": "List", "items": classes}
    control_plane.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(both))
    yield control_plane
    control_plane.kubectl("delete", "priorityclass", "profiles", "replicas")


@pytest.fixture
def stage(plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Stage]:
    plane.write_pod_log("")
    made = Stage(plane, namespace, tmp_path)
    yield made
    plane.write_pod_log("")
    made.kubectl("delete", "slmp,pods", "--all", "--force", "--grace-period=0")
    plane.kubectl("delete", "nodes", "--selector=pool", "--wait=false")
    plane.kubectl("delete", "lease/slm-operator", "--ignore-not-found")


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
        pod = wait_until(lambda: next((one for one in pods(stage) if "nodeName" in one["spec"]), None))
        assert (pod["spec"]["priority"], pod["spec"]["preemptionPolicy"]) == (-10, "Never")
        name = pod["metadata"]["name"]
        stage.kubectl("patch", f"pod/{name}", "--subresource=status", "--type=merge", "-p", RUNNING)
        assert stage.said("gives-way", "Measuring")["gpuSeconds"] == 60
        stage.apply(replica("held"))
        wait_until(lambda: "PreemptionByScheduler" in json.dumps(stage.get(f"pod/{name}")))
        stage.kubectl("patch", f"pod/{name}", "--subresource=status", "--type=merge", "-p", ENDED)
        stage.kubectl("delete", f"pod/{name}", "--force", "--grace-period=0", "--wait=false")
        tries = stage.said("gives-way", "AwaitingRetry")["tries"]
        assert (tries["lastEnding"], tries["count"], tries["gpuSeconds"]) == ("Preempted", 1, 60)
        wait_until(lambda: not jobs(stage))
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


def pods(stage: Stage) -> list[Any]:
    return list(stage.get("pods")["items"])


def jobs(stage: Stage) -> list[Any]:
    return list(stage.get("jobs")["items"])


RUNNING = json.dumps(
    {
        "status": {
            "phase": "Running",
            "startTime": "2026-01-01T00:00:00Z",
            "containerStatuses": [
                {
                    "name": "engine",
                    "image": "none",
                    "imageID": "",
                    "ready": True,
                    "restartCount": 0,
                    "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
                }
            ],
        }
    }
)
ENDED = json.dumps({"status": {"phase": "Failed"}})


def replica(pool: str) -> dict[str, Any]:
    """Somebody's replica with a whole GPU, of higher priority."""
    container = {"name": "engine", "image": "none", "resources": {"limits": {GPU: "1"}}}
    spec = {"containers": [container], "nodeSelector": {"pool": pool}, "priorityClassName": "replicas"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "replica"}, "spec": spec}
