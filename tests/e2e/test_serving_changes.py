"""Changes under load: nobody's request is lost, and what must not restart does not."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from slm_runtime.metrics import read_counters

from tests.testbed.cluster import KubectlError
from tests.testbed.stage import IMAGES, LIGHT_IMAGE, OPERATOR_NAMESPACE, ROOT

from .conftest import FAST
from .light import applied, import_profile, light, wait_for_reason, wait_until_ready
from .load import POD, container_id, place_client, steady_load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.testbed.stage import Stage

    from .load import Account

pytestmark = [pytest.mark.kind, pytest.mark.timeout(900)]

NAMESPACE = "serving"
NAME = "chat"
NEXT_IMAGE = "slm-operator/engine-light:next"
TOKEN_MS = {"name": "LIGHT_ENGINE_STEP_MS", "value": "30"}  # so that at every moment requests are in flight
OUTAGE_SECONDS = float(os.environ.get("SLM_OUTAGE_SECONDS", "60"))
"""Long enough for a node to be taken for dead when the API server is back."""


@pytest.fixture(scope="module")
def ground(stage: Stage) -> Iterator[Stage]:
    kubectl = stage.cluster.kubectl
    kubectl("create", "namespace", NAMESPACE)
    stage.provide_model(NAMESPACE)
    stage.opt_in()
    import_profile(stage, NAMESPACE)
    place_client(stage)
    yield stage
    kubectl("delete", "namespace", POD)
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
    assert account.truncated == 0, account.examples
    # NB: while every replica is going, kube-proxy still connects to them; who connects in the instant in which an engine
    # stops listening is disconnected without an answer. That is the outage too, and nobody's answer is cut off.
    unheard = sum("0 of" in example and "ServerDisconnected" in example for example in account.examples)
    assert account.failed <= (unheard if outage else 0), account.examples
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


def test_an_engine_that_is_killed_takes_only_its_own_requests_with_it(served: Stage) -> None:
    victim, neighbour = pods(served)
    clients = 8
    with steady_load(served, NAMESPACE, NAME, clients=clients) as load:
        before = itl_ms(served, neighbour)
        kill_engine(served, victim["metadata"]["name"])
        during = itl_ms(served, neighbour)
        restarted = "--for=jsonpath={.status.containerStatuses[0].restartCount}=1"
        name = victim["metadata"]["name"]
        served.cluster.kubectl("wait", f"pod/{name}", "--namespace", NAMESPACE, restarted, "--timeout=60s")
        wait_until_ready(served, NAMESPACE, NAME)
        after = itl_ms(served, neighbour)
    account = load.account
    print(f"{account.ok} ok, {account.refused} refused, {account.failed} failed, {account.truncated} truncated")
    print(f"the neighbour's ITL: {before:.1f} ms before, {during:.1f} ms meanwhile, {after:.1f} ms after")
    # Its own: what it was answering. Whoever connects before the Service forgets it is refused, and may ask again.
    assert 0 < account.truncated + account.failed <= clients, account.examples
    assert restarts(served)[neighbour["metadata"]["name"]] == 0


def kill_engine(stage: Stage, pod: str) -> None:
    """SIGKILL to the engine's process, from its node: nobody is asked and nothing is drained."""
    listed = on_node(stage, "ctr", "--namespace", "k8s.io", "tasks", "list").splitlines()
    running = {words[0]: words[1] for words in map(str.split, listed[1:])}
    on_node(stage, "kill", "-9", running[container_id(stage, pod, NAMESPACE)])


def on_node(stage: Stage, *command: str) -> str:
    return stage.cluster.engine.docker("exec", stage.cluster.node, *command)


def restarts(stage: Stage) -> dict[str, int]:
    return {pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods(stage)}


def itl_ms(stage: Stage, pod: dict[str, Any], seconds: float = 3) -> float:
    """Mean ITL of one replica over the next seconds, from its own counters."""
    script = (
        f"import urllib.request as u; print(u.urlopen('http://{pod['status']['podIP']}:8000/metrics').read().decode())"
    )
    asked = ("exec", "--namespace", POD, POD, "--", "python3", "-c", script)
    first = read_counters(stage.cluster.kubectl(*asked))
    time.sleep(seconds)  # a rate needs time: there is no event to await
    last = read_counters(stage.cluster.kubectl(*asked))
    return 1000 * (last.itl_sum - first.itl_sum) / (last.itl_count - first.itl_count)


@contextlib.contextmanager
def no_api_server(stage: Stage) -> Iterator[None]:
    """The API server taken from its node, as a broken upgrade does it."""
    manifest, aside = "/etc/kubernetes/manifests/kube-apiserver.yaml", "/etc/kubernetes/kube-apiserver.yaml"
    on_node(stage, "mv", manifest, aside)
    try:
        until(lambda: not answers(stage), timeout_s=120)
        yield
    finally:
        on_node(stage, "mv", aside, manifest)
        until(lambda: answers(stage), timeout_s=180)


def answers(stage: Stage) -> bool:
    try:
        stage.cluster.kubectl("get", "--raw", "/readyz", "--request-timeout=3s", timeout_s=20)
    except KubectlError:
        return False
    return True


def until(wanted: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not wanted():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.5)


def test_without_operator_and_api_server_engines_go_on_and_none_restarts_afterwards(served: Stage) -> None:
    operator = ("deployment/slm-operator", "--namespace", OPERATOR_NAMESPACE)
    before = uids(served), restarts(served)
    with steady_load(served, NAMESPACE, NAME) as load:
        served.cluster.kubectl("scale", *operator, "--replicas=0")
        with no_api_server(served):
            time.sleep(OUTAGE_SECONDS)  # the outage is the point
        served.cluster.kubectl("scale", *operator, "--replicas=1")
        # NB: without an API server controllers and scheduler crash-loop; their backoff may be over a minute by now.
        served.cluster.kubectl("rollout", "status", *operator, "--timeout=240s", timeout_s=270)
        wait_until_ready(served, NAMESPACE, NAME)
    assert_nothing_lost(load.account)
    assert (uids(served), restarts(served)) == before


def generation(stage: Stage) -> int:
    return int(stage.get("slmd", NAME, NAMESPACE)["metadata"]["generation"])


def test_another_class_on_the_only_node_refuses_meanwhile_and_cuts_nobody_off(served: Stage) -> None:
    """A planned outage: the node's only GPU is cut anew, so for a while there is nobody to connect to."""
    with steady_load(served, NAMESPACE, NAME) as load:
        patch(served, sharing={"replicasPerGpu": 3}, replicas=3)
        served.wait_for_allocatable("nvidia.com/gpu.shared", 3, timeout_s=300)
        wait_until_ready(served, NAMESPACE, NAME)
    assert_nothing_lost(load.account, outage=True)
    assert len(pods(served)) == 3
