"""From one `kubectl apply` to a served pack of two real vLLM, where a node has `nvidia.com/gpu` and nothing else.

The namespace is under the restricted Pod Security Standard, and nobody opted in. What is measured here is found again by
test_first_answer.py, which serves it in slices.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from slm_core.codec import parse_document
from slm_core.pack_pod import STATUS_PORT

from .bare import bare
from .conftest import node_at_rest
from .first import ASK, NAME, apply_and_wait, deployment, in_pod, metrics, pods, profile
from .load import POD, place_client, steady_load
from .serving import assert_nothing_lost, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.stage import Stage

STATUS = (
    f"import urllib.request; print(urllib.request.urlopen('http://localhost:{STATUS_PORT}/status').read().decode())"
)
pytestmark = [pytest.mark.kind, pytest.mark.vllm, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def packed(stage: Stage, first_namespace: str) -> Iterator[str]:
    """The example, applied and ready on the bare node: its namespace."""
    kubectl = stage.cluster.kubectl
    node_at_rest(stage)
    with bare(stage):
        place_client(stage)
        apply_and_wait(stage)
        yield first_namespace
        kubectl("delete", "slmd", NAME, "--namespace", first_namespace)
        kubectl("wait", "--for=delete", "pods", "--all", "--namespace", first_namespace, "--timeout=280s")
        kubectl("delete", "namespace", POD)


def test_the_real_engine_was_measured_without_an_opt_in(stage: Stage, packed: str) -> None:
    assert packed
    found = profile(stage)
    document = parse_document(found["status"]["measurements"])
    assert (found["status"]["phase"], document.engine.name) == ("Complete", "vllm")
    assert any(point.replicas == 2 for point in document.points), "the pack that is served was not measured"


def test_one_pod_has_the_whole_gpu_and_both_engines(stage: Stage, packed: str) -> None:
    (pod,) = pods(stage)
    # A pack answers, and is Ready, once one engine does; the second starts after it.
    until(lambda: json.loads(in_pod(stage, pod, STATUS))["enginesReady"] == 2, timeout_s=400)
    until(lambda: deployment(stage)["status"]["readyReplicas"] == 2, timeout_s=120)
    said = deployment(stage)["status"]
    assert (said["sharing"]["partitioning"], said["sharing"]["reason"]) == ("PackPod", "NoNodeFits")
    assert (said["replicas"], said["sharing"]["pods"]) == (2, 1)
    (held,) = (one for one in stage.allocations() if one["namespace"] == packed)
    assert (held["pod"], held["resource"], len(held["device_ids"])) == (pod["metadata"]["name"], "nvidia.com/gpu", 1)


def test_both_engines_answer_through_the_service(stage: Stage, packed: str) -> None:
    (pod,) = pods(stage)
    url = deployment(stage)["status"]["url"]
    with steady_load(stage, packed, NAME, clients=2, tokens=16):
        in_pod(stage, pod, ASK.replace("URL", url))
    finished = {line: value for line, value in metrics(stage, pod, STATUS_PORT).items() if "request_success" in line}
    for index in range(2):
        answered = sum(float(value) for line, value in finished.items() if f'engine="{index}"' in line)
        assert answered > 0, f"engine {index} was never asked: {finished}"


def test_a_change_under_load_cuts_nobody_off(stage: Stage, packed: str) -> None:
    """One GPU has no room for a successor beside the pack: its outage is announced before it begins."""
    (before,) = pods(stage)
    with steady_load(stage, packed, NAME, clients=3, tokens=48) as load:
        change = json.dumps({"spec": {"engine": {"args": ["--enforce-eager", "--seed", "7"]}}})
        stage.cluster.kubectl("patch", "slmd", NAME, "--namespace", packed, "--type=merge", "--patch", change)
        until(lambda: is_announced(stage), timeout_s=120)
        until(lambda: is_followed(stage, before["metadata"]["uid"]), timeout_s=400)
        stage.cluster.kubectl(
            *("wait", f"slmd/{NAME}", "--namespace", packed, "--for=condition=Ready", "--timeout=400s"), timeout_s=430
        )
    assert_nothing_lost(load.account, outage=True)


def is_announced(stage: Stage) -> bool:
    return any(one["reason"] == "ReplacedInPlace" for one in deployment(stage)["status"]["conditions"])


def is_followed(stage: Stage, former: str) -> bool:
    found = pods(stage)
    return (
        len(found) == 1
        and found[0]["metadata"]["uid"] != former
        and "--seed" in found[0]["spec"]["containers"][0]["args"]
    )
