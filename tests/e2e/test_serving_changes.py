"""Changes under load: nobody's request is lost, and what must not restart does not."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from slm_runtime.codec import to_json
from slm_runtime.metrics import read_counters

from tests.testbed.stage import IMAGES, LIGHT_IMAGE, ROOT
from tests.unit.planning import worlds

from .conftest import FAST
from .light import applied, light, wait_for_reason, wait_until_ready
from .load import POD, place_client, steady_load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.stage import Stage

    from .load import Account

pytestmark = [pytest.mark.kind, pytest.mark.timeout(900)]

NAMESPACE = "serving"
NAME = "chat"
NEXT_IMAGE = "slm-operator/engine-light:next"
TOKEN_MS = {"name": "LIGHT_ENGINE_STEP_MS", "value": "30"}  # so that at every moment requests are in flight
SLO = {"itlMs": 12, "itlFactor": None}


@pytest.fixture(scope="module")
def ground(stage: Stage) -> Iterator[Stage]:
    kubectl = stage.cluster.kubectl
    kubectl("create", "namespace", NAMESPACE)
    stage.provide_model(NAMESPACE)
    stage.opt_in()
    profile = {
        "apiVersion": "slm-operator.io/v1alpha1",
        "kind": "SLMProfile",
        "metadata": {"name": "imported", "namespace": NAMESPACE},
        "spec": {"model": {"uri": "pvc://models/opt-tiny"}, "measurements": to_json(worlds.document())},
    }
    kubectl("apply", "--filename", "-", stdin=json.dumps(profile))
    place_client(stage)
    yield stage
    kubectl("delete", "namespace", POD, "--wait=false")
    kubectl("label", "node", stage.cluster.node, "slm-operator.io/managed-")
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture(scope="module")
def served(ground: Stage) -> Iterator[Stage]:
    """Two engines on the node's one GPU, with advice from a published profile: no change needs to be measured."""
    spec = {
        "engine": {"env": [TOKEN_MS]},
        "profiling": {"profile": "imported"},
        "slo": {"itlMs": 12},
    }
    with applied(ground, NAMESPACE, light(NAME, **spec)):
        wait_until_ready(ground, NAMESPACE, NAME)
        yield ground


def patch(stage: Stage, **spec: Any) -> None:
    stage.cluster.kubectl(
        *("patch", "slmd", NAME, "--namespace", NAMESPACE, "--type=merge", "--patch", json.dumps({"spec": spec}))
    )


def wait_until_rolled(stage: Stage, words: str) -> None:
    """Wait until every replica runs with these words among its arguments, and nothing else is left."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        found = pods(stage)
        if found and all(words in said(pod) and ready(pod) for pod in found):
            wait_until_ready(stage, NAMESPACE, NAME)
            return
        time.sleep(1)
    raise TimeoutError(f"not all replicas run with {words}: {[said(pod) for pod in pods(stage)]}")


def pods(stage: Stage) -> list[dict[str, Any]]:
    selector = ("--selector", f"slm-operator.io/deployment={NAME}")
    listed = stage.cluster.kubectl("get", "pods", "--namespace", NAMESPACE, *selector, "--output", "json")
    found: list[dict[str, Any]] = json.loads(listed)["items"]
    return found


def uids(stage: Stage) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods(stage)}


def said(pod: dict[str, Any]) -> str:
    engine = next(one for one in pod["spec"]["containers"] if one["name"] == "engine")
    return " ".join([engine["image"], *engine["args"]])


def ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    up = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return up and "deletionTimestamp" not in pod["metadata"]


def assert_nothing_lost(account: Account, *, outage: bool = False) -> None:
    print(f"{account.ok} ok, {account.refused} refused, {account.failed} failed, {account.truncated} truncated")
    assert account.ok > 0
    assert (account.failed, account.truncated) == (0, 0), account.examples
    assert outage or account.refused == 0, account.examples


def test_new_advice(served: Stage) -> None:
    before = uids(served)
    with steady_load(served, NAMESPACE, NAME) as load:
        patch(served, slo={"itlMs": 8})
        wait_until_rolled(served, "--max-num-seqs 32")
    assert_nothing_lost(load.account)
    assert not before & uids(served)


def test_a_new_engine_image_with_other_arguments(served: Stage) -> None:
    dockerfile, context = IMAGES[LIGHT_IMAGE]
    served.cluster.build(ROOT / dockerfile, ROOT / context, NEXT_IMAGE)
    served.cluster.load_image(NEXT_IMAGE)
    with steady_load(served, NAMESPACE, NAME) as load:
        patch(served, engine={"image": NEXT_IMAGE, "args": ["--seed", "7"]})
        wait_until_rolled(served, "--seed 7")
    assert_nothing_lost(load.account)
    assert all(NEXT_IMAGE in said(pod) for pod in pods(served))


def scale(stage: Stage, replicas: int) -> None:
    stage.cluster.kubectl("scale", "slmd", NAME, "--namespace", NAMESPACE, f"--replicas={replicas}")
    path = f"--for=jsonpath={{.status.replicas}}={replicas}"
    stage.cluster.kubectl("wait", f"slmd/{NAME}", "--namespace", NAMESPACE, path, "--timeout=120s", timeout_s=150)


def test_scaled_down_and_up(served: Stage) -> None:
    kept = uids(served)
    with steady_load(served, NAMESPACE, NAME) as load:
        scale(served, 1)
        scale(served, 2)
        wait_until_ready(served, NAMESPACE, NAME)
    assert_nothing_lost(load.account)
    assert len(kept & uids(served)) == 1


def test_a_replica_evicted_as_a_drain_does(served: Stage) -> None:
    victim = pods(served)[0]["metadata"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": victim["name"]}}
    with steady_load(served, NAMESPACE, NAME) as load:
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{victim['name']}/eviction"
        served.cluster.kubectl("create", "--raw", path, "--filename", "-", stdin=json.dumps(eviction))
        served.cluster.kubectl(
            *("wait", "--for=delete", f"pod/{victim['name']}", "--namespace", NAMESPACE, "--timeout=120s"),
            timeout_s=150,
        )
        wait_until_ready(served, NAMESPACE, NAME)
    assert_nothing_lost(load.account)
    assert victim["uid"] not in uids(served)


def test_a_roll_whose_engines_do_not_start_stops_and_says_why(served: Stage) -> None:
    with steady_load(served, NAMESPACE, NAME) as load:
        patch(served, engine={"env": [TOKEN_MS, {"name": "LIGHT_ENGINE_FAULT", "value": "die-at-start"}]})
        message = wait_for_reason(served, NAMESPACE, NAME, "CrashLoopBackOff")
        old = [pod for pod in pods(served) if ready(pod)]
        patch(served, engine={"env": [TOKEN_MS]})
        wait_until_ready(served, NAMESPACE, NAME)
    assert "1 of 2 replicas answer" in message
    assert "logs" in message
    assert len(old) == 1
    assert_nothing_lost(load.account)


def test_an_operator_that_is_upgraded_restarts_no_engine_and_watches_what_it_finds(served: Stage) -> None:
    kubectl = served.cluster.kubectl
    before = uids(served)
    with steady_load(served, NAMESPACE, NAME) as load:
        served.install_operator(*FAST, "config.watch.intervalSeconds=2")
        # The light engine takes 30 ms a token, the profile that was published promises 8: the watch must see that.
        missed = "--for=jsonpath={.status.conditions[?(@.type=='SLOMet')].reason}=SloMissed"
        kubectl("wait", f"slmd/{NAME}", "--namespace", NAMESPACE, missed, "--timeout=120s", timeout_s=150)
        kubectl("label", "slmd", NAME, "--namespace", NAMESPACE, "team=a")
        kubectl("annotate", "slmd", NAME, "--namespace", NAMESPACE, "note=b")
        patch(served, replicas=2, slo={"itlMs": 8.5})  # asks for the same batch
        observed = f"--for=jsonpath={{.status.observedGeneration}}={generation(served)}"
        kubectl("wait", f"slmd/{NAME}", "--namespace", NAMESPACE, observed, "--timeout=90s")
    assert_nothing_lost(load.account)
    assert uids(served) == before
    said_by_type = {one["type"]: one for one in served.get("slmd", NAME, NAMESPACE)["status"]["conditions"]}
    assert said_by_type["Ready"]["status"] == "True"
    assert said_by_type["SLOMet"]["status"] == "False"
    assert "over the limit of 8" in said_by_type["SLOMet"]["message"]


def generation(stage: Stage) -> int:
    return int(stage.get("slmd", NAME, NAMESPACE)["metadata"]["generation"])


def test_an_engine_that_is_killed_takes_only_its_own_requests_with_it(served: Stage) -> None:
    victim, neighbour = (pod["metadata"]["name"] for pod in pods(served))
    clients = 8
    with steady_load(served, NAMESPACE, NAME, clients=clients) as load:
        kill_engine(served, victim)
        restarted = "--for=jsonpath={.status.containerStatuses[0].restartCount}=1"
        served.cluster.kubectl("wait", f"pod/{victim}", "--namespace", NAMESPACE, restarted, "--timeout=60s")
        wait_until_ready(served, NAMESPACE, NAME)
    account = load.account
    print(f"{account.ok} ok, {account.refused} refused, {account.failed} failed, {account.truncated} truncated")
    assert 0 < account.truncated + account.failed <= clients, account.examples
    assert served.get("pod", neighbour, NAMESPACE)["status"]["containerStatuses"][0]["restartCount"] == 0


def kill_engine(stage: Stage, pod: str) -> None:
    """SIGKILL to the engine's process, from its node: nobody is asked and nothing is drained."""
    uid = stage.get("pod", pod, NAMESPACE)["status"]["containerStatuses"][0]["containerID"].partition("://")[2]
    node = stage.cluster.node
    template = ("--output", "go-template", "--template", "{{.info.pid}}")
    process = stage.cluster.engine.docker("exec", node, "crictl", "inspect", *template, uid).strip()
    stage.cluster.engine.docker("exec", node, "kill", "-9", process)


def test_another_class_on_the_only_node_refuses_meanwhile_and_cuts_nobody_off(served: Stage) -> None:
    """A planned outage: the node's only GPU is cut anew, so for a while there is nobody to connect to."""
    with steady_load(served, NAMESPACE, NAME) as load:
        patch(served, sharing={"replicasPerGpu": 3}, replicas=3)
        served.wait_for_allocatable("nvidia.com/gpu.shared", 3, timeout_s=300)
        wait_until_ready(served, NAMESPACE, NAME)
    assert_nothing_lost(load.account, outage=True)
    assert len(pods(served)) == 3


def finished_requests(stage: Stage) -> dict[str, float]:
    """Requests that each replica has finished, by its pod's name."""
    script = (
        "import json, sys, urllib.request\n"
        "def page(ip): return urllib.request.urlopen(f'http://{ip}:8000/metrics', timeout=30).read().decode()\n"
        "print(json.dumps({name: page(ip) for name, ip in json.loads(sys.argv[1]).items()}))"
    )
    addresses = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in pods(stage)}
    pages = json.loads(
        stage.cluster.kubectl(*("exec", "--namespace", POD, POD, "--", "python3", "-c", script, json.dumps(addresses)))
    )
    return {name: read_counters(page).finished for name, page in pages.items()}


def shares(stage: Stage, *, kept: bool, clients: int) -> list[float]:
    """Share of each replica in the requests of one load, the largest first."""
    before = finished_requests(stage)
    with steady_load(stage, NAMESPACE, NAME, clients=clients, tokens=4, kept=kept):
        time.sleep(20)  # there is no event to await: the load is what is wanted
    after = finished_requests(stage)
    counts = [after[name] - before[name] for name in after]
    print(f"{clients} clients, connections {'kept' if kept else 'new'}: {counts}")
    return sorted((count / sum(counts) for count in counts), reverse=True)


def test_how_evenly_the_service_loads_three_replicas(served: Stage) -> None:
    many = shares(served, kept=False, clients=6)
    few = shares(served, kept=True, clients=2)
    assert many[0] < 0.5, "new connections are spread by chance, and chance is even"
    assert few[-1] == 0, "two connections reach at most two of three replicas"


def test_an_autoscaler_finds_scale_and_selector(served: Stage) -> None:
    """The metrics API is another project's: without it the autoscaler says so, after it has read /scale."""
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {
            "scaleTargetRef": {"apiVersion": "slm-operator.io/v1alpha1", "kind": "SLMDeployment", "name": NAME},
            "minReplicas": 1,
            "maxReplicas": 3,
            "metrics": [
                {
                    "type": "Pods",
                    "pods": {
                        "metric": {"name": "vllm:num_requests_waiting"},
                        "target": {"type": "AverageValue", "averageValue": "4"},
                    },
                }
            ],
        },
    }
    served.apply(scaler)
    try:
        served.cluster.kubectl(
            *("wait", f"hpa/{NAME}", "--namespace", NAMESPACE, "--for=condition=AbleToScale", "--timeout=60s")
        )
        served.cluster.kubectl(
            *("wait", f"hpa/{NAME}", "--namespace", NAMESPACE, "--for=condition=ScalingActive=False", "--timeout=60s")
        )
        found = served.get("hpa", NAME, NAMESPACE)["status"]["conditions"]
        active = next(one for one in found if one["type"] == "ScalingActive")
        assert active["reason"] == "FailedGetPodsMetric", active
    finally:
        served.cluster.kubectl("delete", "hpa", NAME, "--namespace", NAMESPACE)


def test_scaled_to_zero_the_gpu_is_whole_again_and_comes_back_when_asked(served: Stage) -> None:
    scale(served, 0)
    served.wait_for_allocatable("nvidia.com/gpu", 1, timeout_s=240)
    began = time.monotonic()
    served.cluster.kubectl("scale", "slmd", NAME, "--namespace", NAMESPACE, "--replicas=1")
    answered = "--for=jsonpath={.status.readyReplicas}=1"
    served.cluster.kubectl("wait", f"slmd/{NAME}", "--namespace", NAMESPACE, answered, "--timeout=300s", timeout_s=330)
    print(f"from zero to an answer: {time.monotonic() - began:.0f} s, with the node cut anew")
