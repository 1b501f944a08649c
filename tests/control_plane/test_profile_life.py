"""What was measured is found again by what matters, outlives who asked for it, and is extended by what another one asks.

With the real garbage collector: an owner reference too many would take a measurement away.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from slm_core.codec import to_json

from tests import builders as build
from tests.control_plane.gpu_fleet import GPU, MODEL
from tests.control_plane.operator_process import OperatorProcess, wait_until
from tests.control_plane.profile_stage import Stage
from tests.hostile_log import line, result
from tests.unit.planning.searched import searched

pytestmark = pytest.mark.control_plane
WINDOWS = line(event="phase", phase="Measuring", message="B = 8", gpuSeconds=60.0)


def wants(name: str, **spec: Any) -> dict[str, Any]:
    subject = {"model": MODEL, "accelerator": {"nodeSelector": {"pool": "life"}}, "sharing": {"mode": "Exclusive"}}
    return build.manifest("SLMDeployment", name, subject | {"replicas": 0} | spec)


def the_profile(stage: Stage) -> dict[str, Any]:
    """The only one of the namespace."""
    (found,) = stage.get("slmp")["items"]
    return dict(found)


def is_measured(stage: Stage) -> bool:
    items = stage.get("slmp")["items"]
    return len(items) == 1 and stage.says(items[0]["metadata"]["name"]) == ("Complete", "Measured")


def is_advised(stage: Stage, name: str, *where: str) -> dict[str, Any]:
    """Status of a deployment, once it is advised in its present generation."""

    def looked() -> dict[str, Any] | None:
        raw = json.loads(stage.plane.kubectl("get", f"slmd/{name}", "-o", "json", *(where or ("-n", stage.namespace))))
        status: dict[str, Any] = raw.get("status") or {}
        holds = {one["type"]: one["status"] for one in status.get("conditions", ())}
        is_present = status.get("observedGeneration") == raw["metadata"]["generation"]
        return status if is_present and holds.get("Advised") == "True" else None

    found = wait_until(looked)
    assert found is not None
    return dict(found)


def jobs_made(process: OperatorProcess) -> int:
    return sum(action.startswith("Apply Job") for action in process.done())


@pytest.fixture
def elsewhere(stage: Stage) -> Iterator[str]:
    """Another team's namespace, for which the stage's is a library."""
    name = f"{stage.namespace}-2"
    stage.plane.kubectl("create", "namespace", name)
    yield name
    stage.plane.kubectl("delete", "slmd,slmp", "--all", "--namespace", name)
    stage.plane.kubectl("delete", "namespace", name, "--wait=false")


def test_measured_profile_is_found_again_at_no_gpu_seconds(stage: Stage, elsewhere: str) -> None:
    stage.plane.write_pod_log(f"{WINDOWS}\n{result()}")
    stage.adds_node("life")
    with stage.works() as process:
        stage.apply(wants("chat"))
        wait_until(lambda: is_measured(stage))
        first = the_profile(stage)
        assert "ownerReferences" not in first["metadata"]
        assert first["status"]["gpuSeconds"] == 60
        log_level = {"name": "VLLM_LOGGING_LEVEL", "value": "DEBUG"}
        stage.apply(wants("chat", engine={"env": [log_level]}))
        is_advised(stage, "chat")
        stage.kubectl("delete", "slmd/chat")
        wait_until(lambda: the_profile(stage)["status"].get("unusedSince"))
        stage.apply(wants("chat"))
        is_advised(stage, "chat")
        wait_until(lambda: "unusedSince" not in the_profile(stage)["status"])
        stage.apply(wants("renamed"))
        stage.kubectl("delete", "slmd/chat")
        is_advised(stage, "renamed")
        body = json.dumps(wants("moved"))
        stage.plane.kubectl("apply", "--server-side", "-n", elsewhere, "-f", "-", stdin=body)
        moved = is_advised(stage, "moved", "-n", elsewhere)
        assert moved["profile"]["namespace"] == stage.namespace
        stage.kubectl("delete", "slmd/renamed")
        last = the_profile(stage)
        assert (last["metadata"]["uid"], last["status"]["gpuSeconds"]) == (first["metadata"]["uid"], 60)
        assert json.loads(stage.plane.kubectl("get", "slmp", "-n", elsewhere, "-o", "json"))["items"] == []
        assert jobs_made(process) == 1, process.log()
        assert "unusedSince" not in the_profile(stage)["status"], "somebody elsewhere uses it"


def test_profile_goes_on_when_one_of_two_deployments_goes(stage: Stage) -> None:
    stage.plane.write_pod_log(WINDOWS)
    stage.adds_node_of_nobody("life", like=stage.adds_node("other"))
    with stage.works() as process:
        stage.apply(wants("stays"))
        stage.apply(wants("goes"))
        pod = wait_until(lambda: next((one for one in stage.pods() if "nodeName" in one["spec"]), None))
        stage.runs(pod["metadata"]["name"])
        name = the_profile(stage)["metadata"]["name"]
        stage.said(name, "Measuring")
        stage.kubectl("delete", "slmd/goes")
        stage.plane.write_pod_log(f"{WINDOWS}\n{result()}")
        stage.said(name, "Measured")
        is_advised(stage, "stays")
        assert jobs_made(process) == 1


def test_a_profile_deleted_while_it_is_measured_is_measured_anew(stage: Stage) -> None:
    stage.plane.write_pod_log(WINDOWS)
    stage.adds_node_of_nobody("life", like=stage.adds_node("other"))
    with stage.works():
        stage.apply(wants("chat"))
        pod = wait_until(lambda: next((one for one in stage.pods() if "nodeName" in one["spec"]), None))
        stage.runs(pod["metadata"]["name"])
        profile = the_profile(stage)
        stage.said(profile["metadata"]["name"], "Measuring")
        stage.kubectl("delete", f"slmp/{profile['metadata']['name']}", "--wait=false")
        stage.kubectl("delete", f"pod/{pod['metadata']['name']}", "--force", "--grace-period=0", "--wait=false")
        stage.plane.write_pod_log(f"{WINDOWS}\n{result()}")
        wait_until(lambda: len(stage.pods()) == 1 and stage.pods()[0]["metadata"]["uid"] != pod["metadata"]["uid"])
        stage.runs(stage.pods()[0]["metadata"]["name"])
        wait_until(lambda: is_measured(stage))
        assert the_profile(stage)["metadata"]["uid"] != profile["metadata"]["uid"]
        is_advised(stage, "chat")


def test_another_load_is_added_while_the_first_advice_stands(stage: Stage) -> None:
    document = searched(build.deployment(spec={"sharing": {"mode": "Exclusive"}}))
    more = replace(document, points=(*document.points, replace(document.points[-1], in_flight=20, confirmed=True)))
    stage.plane.write_pod_log(f"{WINDOWS}\n{result(**to_json(document))}")
    stage.adds_node("life")
    with stage.works() as process:
        stage.apply(wants("first"))
        wait_until(lambda: is_measured(stage))
        decided = is_advised(stage, "first")["advice"]["decidedTime"]
        stage.apply(holder())
        wait_until(lambda: "nodeName" in stage.get("pod/holder")["spec"])
        stage.apply(wants("second", workload={"concurrencyPerGpu": 20}))
        name = the_profile(stage)["metadata"]["name"]
        wait_until(lambda: "no whole GPU is free" in message(stage.get(f"slmp/{name}"), "Profiled"))
        assert stage.says(name) == ("Complete", "Extending")
        is_advised(stage, "second")
        assert "The evidence is thin" in message(stage.get("slmd/second"), "Advised")
        stage.plane.write_pod_log(f"{WINDOWS}\n{result(**to_json(more))}")
        stage.kubectl("delete", "pod/holder", "--force", "--grace-period=0")
        wait_until(lambda: is_measured(stage))
        status = the_profile(stage)["status"]
        assert len(status["measurements"]["points"]) == len(document.points) + 1
        assert status["gpuSeconds"] == 120
        wait_until(lambda: "The evidence is thin" not in message(stage.get("slmd/second"), "Advised"))
        assert is_advised(stage, "first")["advice"]["decidedTime"] == decided
        assert jobs_made(process) == 2


def message(raw: dict[str, Any], kind: str) -> str:
    return next((str(one["message"]) for one in raw["status"]["conditions"] if one["type"] == kind), "")


def holder() -> dict[str, Any]:
    """Somebody's pod on the only GPU."""
    container = {"name": "busy", "image": "none", "resources": {"limits": {GPU: "1"}}}
    spec = {"containers": [container], "nodeSelector": {"pool": "life"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "holder"}, "spec": spec}
