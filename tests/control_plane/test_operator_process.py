"""The operator as a process on a real API server: start, work, idle, die, come back, stand by."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from slm_core.codec import to_json

from tests import builders as build
from tests.control_plane.gpu_fleet import is_ready
from tests.control_plane.operator_process import OperatorProcess, now, operator, requests_since, wait_until
from tests.testbed.cluster import apply_crds
from tests.testbed.control_plane import ControlPlane

pytestmark = pytest.mark.control_plane
ROOT = Path(__file__).parents[2]
IDLE_SECONDS = 20


@pytest.fixture(scope="module")
def plane(control_plane: ControlPlane) -> ControlPlane:
    apply_crds(control_plane, ROOT / "crds")
    labels = build.OPTED_IN | build.feature_labels(1) | {"nvidia.com/mps.capable": "false"}
    control_plane.add_kwok_nodes(2, prefix="gpu", labels=labels, resources={"nvidia.com/gpu": 1})
    return control_plane


@pytest.fixture
def chat(plane: ControlPlane, namespace: str) -> Iterator[str]:
    """An SLMDeployment whose profile is imported, one engine a GPU; gives its namespace."""
    apply(plane, namespace, "SLMProfile", "measured", measured())
    apply(plane, namespace, "SLMDeployment", "chat", spec())
    yield namespace
    plane.kubectl("delete", "slmd,slmp", "--all", "--namespace", namespace, "--wait=false")
    # What holds a GPU here is what the next test's operator would see, and see going.
    plane.kubectl("wait", "--for=delete", "pods", "--all", "--namespace", namespace, "--timeout=240s")


def spec(replicas: int = 1) -> dict[str, Any]:
    return {
        "model": {"uri": "hf://facebook/opt-1.3b"},
        "profiling": {"policy": "Never", "profileRef": {"name": "measured"}},
        "sharing": {"mode": "Exclusive"},
        "replicas": replicas,
    }


def measured() -> dict[str, Any]:
    return {"model": {"uri": "hf://facebook/opt-1.3b"}, "measurements": to_json(build.imported())}


def apply(plane: ControlPlane, namespace: str, kind: str, name: str, body: dict[str, Any]) -> None:
    one = build.manifest(kind, name, body, namespace=namespace)
    plane.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(one))


def get(plane: ControlPlane, namespace: str, what: str) -> Any:
    return json.loads(plane.kubectl("get", what, "--namespace", namespace, "-o", "json"))


def ready(plane: ControlPlane, namespace: str, generation: int = 1) -> Any:
    """The SLMDeployment once it is Ready in this generation."""

    def probe() -> Any:
        found = get(plane, namespace, "slmd/chat")
        status = found.get("status") or {}
        conditions = {one["type"]: one["status"] for one in status.get("conditions") or ()}
        return found if conditions.get("Ready") == "True" and status["observedGeneration"] == generation else None

    return wait_until(probe)


def test_from_an_imported_profile_to_ready_replicas(plane: ControlPlane, chat: str) -> None:
    with operator(plane) as running:
        found = ready(plane, chat)
        assert found["status"]["advice"]["configuration"]["enginesPerGpu"] == 1
        assert found["status"]["readyReplicas"] == 1
        assert get(plane, chat, "service/chat")["spec"]["selector"] == {"slm-operator.io/deployment": "chat"}
        assert running.terminate() == 0
    assert all(line.get("because") for line in running.lines if line["message"] == "done")


def test_operator_at_rest_sends_no_request(plane: ControlPlane, chat: str) -> None:
    with operator(plane) as running:
        ready(plane, chat)
        settle(running)
        since = now()
        time.sleep(IDLE_SECONDS)  # what is awaited is that nothing happens
        assert requests_since(plane, since, chat) == []


def test_a_restart_writes_nothing_that_is_there(plane: ControlPlane, chat: str) -> None:
    with operator(plane) as first:
        ready(plane, chat)
        settle(first)
        first.kill()
    since = now()
    with operator(plane) as second:
        second.said("synced")
        settle(second)
        writes = [one for one in requests_since(plane, since, chat) if one.split()[0] not in {"list", "get"}]
        assert writes == []


def test_operator_killed_at_each_write_ends_the_same(plane: ControlPlane, chat: str) -> None:
    lives = 0
    while True:
        with operator(plane) as running:
            running.said("synced")
            if not wrote(running, lambda: is_ready(get(plane, chat, "slmd/chat"))):
                break  # it had nothing left to write
            running.kill()
        lives += 1
        assert lives < 40, "it writes for ever"
    assert lives >= 3
    with operator(plane):
        ready(plane, chat)
        workloads = get(plane, chat, "deployments")["items"]
    assert [one["metadata"]["name"] for one in workloads] == ["chat"]
    assert workloads[0]["metadata"]["generation"] == 1


def wrote(running: OperatorProcess, at_rest: Callable[[], bool]) -> bool:
    """Whether it writes, at once when it does. Not to have written for a while says something only where all is at rest."""
    for _ in range(30):
        try:
            running.wait_for(lambda line: line["message"] == "done", 4)
        except AssertionError:
            if at_rest():
                return False
        else:
            return True
    raise AssertionError("it writes nothing, and is not at rest")


def test_edits_of_spec_and_of_child_are_both_reconciled(plane: ControlPlane, chat: str) -> None:
    with operator(plane):
        ready(plane, chat)
        apply(plane, chat, "SLMDeployment", "chat", spec(replicas=2))
        ready(plane, chat, generation=2)
        assert get(plane, chat, "deployment/chat")["spec"]["replicas"] == 2
        plane.kubectl("patch", "service/chat", "--namespace", chat, "--type=json", "--patch", SELECT_OTHERS)
        selector = {"slm-operator.io/deployment": "chat"}
        wait_until(lambda: get(plane, chat, "service/chat")["spec"]["selector"] == selector)
        plane.kubectl("delete", "service/chat", "--namespace", chat)
        wait_until(lambda: "service/chat" in plane.kubectl("get", "services", "--namespace", chat, "-o", "name"))


def test_serving_deployment_is_scaled_without_its_profile(plane: ControlPlane, chat: str) -> None:
    """And an operator that has just started, and finds no status, scales it too."""
    with operator(plane) as first:
        ready(plane, chat)
        settle(first)
        first.kill()
    template = get(plane, chat, "deployment/chat")["spec"]["template"]
    plane.kubectl("delete", "slmp/measured", "--namespace", chat)
    no_status = '[{"op": "remove", "path": "/status"}]'
    plane.kubectl("patch", "slmd/chat", "--namespace", chat, "--subresource=status", "--type=json", "-p", no_status)
    plane.kubectl("scale", "slmd/chat", "--namespace", chat, "--replicas=2")
    with operator(plane):
        said = wait_until(lambda: answers(plane, chat, replicas=2))
        found = {name: said[name]["status"] for name in ("Profiled", "Advised", "Allocated")}
        assert found == {"Profiled": "False", "Advised": "True", "Allocated": "True"}
        advice = get(plane, chat, "slmd/chat")["status"]["advice"]
        assert (advice["profileRef"], advice["configuration"]["enginesPerGpu"]) == ({"name": "measured"}, 1)
        plane.kubectl("scale", "slmd/chat", "--namespace", chat, "--replicas=1")
        wait_until(lambda: answers(plane, chat, replicas=1))
        assert get(plane, chat, "deployment/chat")["spec"]["template"] == template
        apply(plane, chat, "SLMProfile", "measured", measured())
        ready(plane, chat, get(plane, chat, "slmd/chat")["metadata"]["generation"])
        assert get(plane, chat, "deployment/chat")["spec"]["template"] == template


def answers(plane: ControlPlane, namespace: str, *, replicas: int) -> Any:
    """The conditions once so many replicas, and no others, answer by what status says."""
    status = get(plane, namespace, "slmd/chat").get("status") or {}
    said = {one["type"]: one for one in status.get("conditions") or ()}
    available = said.get("Available", {}).get("status") == "True"
    counted = (status.get("readyReplicas"), get(plane, namespace, "deployment/chat")["spec"]["replicas"])
    return said if available and counted == (replicas, replicas) else None


SELECT_OTHERS = '[{"op": "replace", "path": "/spec/selector", "value": {"app": "other"}}]'


TOLERATION = {"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}


def test_a_waiting_profile_that_gets_a_toleration_gets_its_gpu(plane: ControlPlane, namespace: str) -> None:
    labels = {"slm-operator.io/managed": "true", "pool": "dedicated"}
    (node,) = plane.add_kwok_nodes(1, prefix="dedicated", labels=labels, resources={"nvidia.com/gpu": 1})
    plane.kubectl("taint", "nodes", node, "dedicated=x:NoSchedule")
    body = {"model": {"uri": "hf://facebook/opt-1.3b"}, "gpu": {"nodeSelector": {"pool": "dedicated"}}}
    apply(plane, namespace, "SLMProfile", "waits", body)
    with operator(plane):
        wait_until(lambda: "WaitingForGPU" in json.dumps(get(plane, namespace, "slmp/waits").get("status")))
        before = get(plane, namespace, "job/waits")["metadata"]["uid"]
        tolerant = body | {"gpu": body["gpu"] | {"tolerations": [TOLERATION]}}
        apply(plane, namespace, "SLMProfile", "waits", tolerant)
        pods = wait_until(lambda: [one for one in get(plane, namespace, "pods")["items"] if "nodeName" in one["spec"]])
    assert {one["spec"]["nodeName"] for one in pods} == {node}
    assert before not in {owner["uid"] for one in pods for owner in one["metadata"]["ownerReferences"]}
    plane.kubectl("delete", "slmp", "--all", "--namespace", namespace, "--wait=false")
    plane.kubectl("delete", "node", node, "--wait=false")


def test_name_conflict_becomes_a_condition_and_writes_nothing(plane: ControlPlane, namespace: str) -> None:
    plane.kubectl("create", "service", "clusterip", "chat", "--tcp=1234", "--namespace", namespace)
    apply(plane, namespace, "SLMProfile", "measured", measured())
    apply(plane, namespace, "SLMDeployment", "chat", spec())
    with operator(plane):
        reported = wait_until(lambda: "name is taken" in json.dumps(get(plane, namespace, "slmd/chat").get("status")))
        assert reported
        assert get(plane, namespace, "service/chat")["spec"]["ports"][0]["port"] == 1234
        plane.kubectl("delete", "service/chat", "--namespace", namespace)
        ready(plane, namespace)
    plane.kubectl("delete", "slmd,slmp", "--all", "--namespace", namespace, "--wait=false")


def test_one_of_two_operators_leads_and_standby_takes_over(plane: ControlPlane, chat: str) -> None:
    with operator(plane, name="one") as one:
        one.said("leading")
        with operator(plane, name="two") as two:
            two.wait_for(lambda line: line["message"] == "standing by")
            ready(plane, chat)
            settle(one)
            assert two.done() == []
            assert one.terminate() == 0
            two.said("leading")  # the Lease was given back: tests/unit/kube has that it is not waited out
            apply(plane, chat, "SLMDeployment", "chat", spec(replicas=2))
            ready(plane, chat, generation=2)
            assert two.done() != []


def test_a_lease_that_is_taken_away_ends_the_process(plane: ControlPlane, chat: str) -> None:
    with operator(plane, name="one") as one:
        one.said("leading")
        ready(plane, chat)
        thief = json.dumps({"spec": {"holderIdentity": "thief", "leaseDurationSeconds": 1}})
        plane.kubectl("patch", "lease/slm-operator", "--type=merge", "--patch", thief)
        assert one.process.wait(timeout=120) == 1
    plane.kubectl("delete", "lease/slm-operator")


def settle(running: OperatorProcess, quiet_s: float = 2) -> None:
    """Wait until the operator has written nothing for a while."""
    count = -1
    while count != len(running.lines):
        count = len(running.lines)
        time.sleep(quiet_s)
