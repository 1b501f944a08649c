"""The stories of the simulated cluster on a real API server, all at once, each on nodes of its own: killed at every write.

One operator plays them all, and each of its processes is killed as soon as its log tells of a write. So every write of
every story is the last one of some process, or of one that was killed in the middle of the next. The plain story of
whole GPUs is in test_operator_process.py, the rest of chance in tests/simulation.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import builders as build
from tests.control_plane.gpu_fleet import GPU, MODEL, SHARED, install, plugins, shown_labels, slm_profile
from tests.control_plane.operator_process import OperatorProcess, operator
from tests.testbed.control_plane import ControlPlane

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(1200)]
SETTINGS = "nodes: {maxChanging: 100, projectionSeconds: 0}\nwatch: {intervalSeconds: 0}\n"
MOST_LIVES, PATIENCE = 150, 80
"""NB: an eviction that is cut off in the middle counts against the budget for two minutes, though its pod stays: the API
server notes it first (status.disruptedPods), and the disruption controller forgets it only then."""
STORIES = {"first": 1, "joined": 2, "switched": 1, "lost": 2, "blocked": 1, "released": 1}
"""Nodes of each story."""
OURS = "slm-operator.io/"


@dataclass
class Stage:
    """The plane, a namespace, and what is seen in them."""

    plane: ControlPlane
    namespace: str
    settings: Path
    lives: int = 0

    def get(self, *what: str) -> Any:
        return json.loads(self.plane.kubectl("get", *what, "--namespace", self.namespace, "-o", "json"))

    def apply(self, body: dict[str, Any]) -> None:
        self.plane.kubectl("apply", "--server-side", "--namespace", self.namespace, "-f", "-", stdin=json.dumps(body))

    def wants(self, name: str, slices: int, replicas: int, story: str = "") -> None:
        spec = {
            "model": MODEL,
            "profiling": {"policy": "Never", "profileRef": {"name": "measured"}},
            "sharing": {"mode": "TimeSlicing", "enginesPerGpu": slices, "partitioning": "NodeSlices"},
            "accelerator": {"nodeSelector": {"story": story or name}},
            "replicas": replicas,
        }
        self.apply(build.manifest("SLMDeployment", name, spec))

    def ready(self) -> dict[str, int]:
        """Replicas that answer, of each deployment that is Ready."""
        found = {}
        for one in self.get("slmd")["items"]:
            status = one.get("status") or {}
            said = {condition["type"]: condition["status"] for condition in status.get("conditions", ())}
            if said.get("Ready") == "True" and status["observedGeneration"] == one["metadata"]["generation"]:
                found[one["metadata"]["name"]] = status["readyReplicas"]
        return found

    def waits_for(self, name: str) -> str:
        """Why a deployment is not Ready."""
        conditions = (self.get(f"slmd/{name}").get("status") or {}).get("conditions") or ()
        return next((one["message"] for one in conditions if one["type"] == "Ready" and one["status"] != "True"), "")

    def marks(self, node: str) -> dict[str, Any]:
        """What the operator may change of a node."""
        raw = self.get(f"node/{node}")
        meta = raw["metadata"]
        kept = {name: value for name, value in meta["labels"].items() if name.startswith(("nvidia.com/", OURS))}
        ours = [name for name in meta["annotations"] if name.startswith(OURS)]
        taints = [one["key"] for one in raw["spec"].get("taints", ()) if one["key"].startswith(OURS)]
        return {"labels": kept, "annotations": ours, "taints": taints, "allocatable": allocatable(raw)}

    def killed_until(self, ended: Callable[[], bool]) -> None:
        """One process after the other, each killed at its first write, until the stories are where they shall be."""
        while not ended():
            with operator(self.plane, f"--config={self.settings}") as running:
                for _ in range(PATIENCE):
                    if wrote(running, seconds=2) or ended():
                        break
                else:
                    raise AssertionError("it writes nothing, and the stories have not ended")
                running.kill()
            self.lives += 1
            assert self.lives < MOST_LIVES, "it writes for ever"


def wrote(running: OperatorProcess, seconds: float) -> bool:
    """Whether its log tells of a write, at once when it does."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if running.done():
            return True
        time.sleep(0.01)
    return False


def allocatable(raw: Mapping[str, Any]) -> dict[str, str]:
    return {name: raw["status"]["allocatable"].get(name, "0") for name in (GPU, SHARED)}


@pytest.fixture
def stage(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Stage]:
    install(control_plane)
    for story, count in STORIES.items():
        labels = {"slm-operator.io/managed": "true", "story": story} | shown_labels("version: v1", 1)
        control_plane.add_kwok_nodes(count, prefix=story, labels=labels, resources={GPU: 1, SHARED: 0})
    settings = tmp_path / "settings.yaml"
    settings.write_text(SETTINGS)
    made = Stage(control_plane, namespace, settings)
    with plugins(control_plane):
        yield made
    control_plane.kubectl("delete", "slmd,slmp,pods", "--all", "--namespace", namespace, "--wait=false")
    control_plane.kubectl("delete", "nodes", "--selector=story", "--wait=false")
    control_plane.kubectl("delete", "lease/slm-operator", "--ignore-not-found")


def test_killed_at_each_of_its_writes_the_stories_end_right(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    before = {node: stage.marks(node) for node in ("released-0", "blocked-0")}
    training = pod("training", "blocked-0")
    stage.apply(training)
    stage.apply(slm_profile("measured"))
    for story in STORIES:
        stage.wants(story, 2, 2)

    packed = {story: 2 for story in STORIES if story != "blocked"}
    stage.killed_until(lambda: stage.ready() == packed and "/training" in stage.waits_for("blocked"))
    assert stage.marks("blocked-0") == before["blocked-0"]
    (lost,) = {one["spec"]["nodeName"] for one in replicas(stage, "lost")}
    undisturbed = {one["metadata"]["uid"] for story in ("first", "joined") for one in replicas(stage, story)}

    stage.plane.kubectl("delete", "pod/training", "--namespace", stage.namespace, "--wait=false")
    stage.plane.kubectl("delete", f"node/{lost}")
    gone = [one["metadata"]["name"] for one in replicas(stage, "lost")]
    stage.plane.kubectl("delete", "pods", *gone, "--namespace", stage.namespace, "--force", "--grace-period=0")
    stage.wants("second", 4, 3, story="joined")
    stage.wants("switched", 4, 4)
    stage.plane.kubectl("delete", "slmd/released", "--namespace", stage.namespace, "--wait=false")

    ends = {"first": 2, "joined": 2, "second": 3, "switched": 4, "lost": 2, "blocked": 2}
    stage.killed_until(lambda: stage.ready() == ends and stage.marks("released-0") == before["released-0"])
    assert {one["metadata"]["uid"] for story in ("first", "joined") for one in replicas(stage, story)} == undisturbed
    assert {one["spec"]["nodeName"] for one in replicas(stage, "lost")} == {"lost-0", "lost-1"} - {lost}
    with capsys.disabled():
        print(f"\nsix stories, {stage.lives} operators killed, {time.monotonic() - began:.0f} s")


def replicas(stage: Stage, name: str) -> list[Any]:
    found = stage.get("pods", f"--selector=slm-operator.io/deployment={name}")["items"]
    return [one for one in found if not one["metadata"].get("deletionTimestamp")]


def pod(name: str, node: str) -> dict[str, Any]:
    """Somebody's own pod with the whole GPU of a node."""
    container = {"name": "main", "image": "none", "resources": {"limits": {GPU: "1"}}}
    spec = {"containers": [container], "nodeSelector": {"kubernetes.io/hostname": node}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
