"""One deployment of the light engine under load: how it is made, changed and looked at.

    with serving(stage) as stage:                         two engines, on advice from a published profile
        with steady_load(stage, NAMESPACE, NAME) as load:
            patch(stage, slo={"itl": {"maxMs": 8}})
            wait_until_rolled(stage, "--max-num-seqs 32")
        assert_nothing_lost(load.account)

Everything goes to `NAME` in `NAMESPACE`: a test file has one such deployment at a time.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from typing import TYPE_CHECKING, Any

from slm_core.engines.registry import default

from tests.testbed.cluster import KubectlError

from .light import applied, import_profile, light, wait_until_ready
from .load import POD, container_id, place_client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from slm_core.counters import Counters

    from tests.testbed.stage import Stage

    from .load import Account

NAMESPACE = "serving"
NAME = "chat"
TOKEN_MS = {"name": "LIGHT_ENGINE_STEP_MS", "value": "30"}  # so that at every moment requests are in flight


@contextlib.contextmanager
def serving(stage: Stage, **spec: Any) -> Iterator[Stage]:
    """Two engines on the node's one GPU, with advice from a published profile: no change needs to be measured."""
    base = {
        "engine": {"env": [TOKEN_MS]},
        "profiling": {"profileRef": {"name": "imported"}},
        "slo": {"itl": {"maxMs": 12}},
    }
    with ground(stage, NAMESPACE), applied(stage, NAMESPACE, light(NAME, **(base | spec))):
        wait_until_ready(stage, NAMESPACE, NAME, timeout_s=600)
        yield stage


@contextlib.contextmanager
def ground(stage: Stage, namespace: str) -> Iterator[None]:
    """A lent node, a namespace with the model and a published profile, and a client for its load; gone afterwards."""
    kubectl = stage.cluster.kubectl
    kubectl("create", "namespace", namespace)
    stage.provide_model(namespace)
    stage.opt_in()
    import_profile(stage, namespace)
    place_client(stage)
    yield
    kubectl("delete", "namespace", POD)
    kubectl("label", "node", stage.cluster.node, "slm-operator.io/managed-")
    kubectl("delete", "namespace", namespace, timeout_s=240)  # the next ground may have its name


def patch(stage: Stage, **spec: Any) -> None:
    stage.cluster.kubectl(
        *("patch", "slmd", NAME, "--namespace", NAMESPACE, "--type=merge", "--patch", json.dumps({"spec": spec}))
    )


def wait_until_rolled(stage: Stage, words: str, timeout_s: float = 300) -> None:
    """Wait until every replica runs with these words among its arguments, and nothing else is left."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = pods(stage)
        if found and all(words in said(pod) and ready(pod) for pod in found):
            wait_until_ready(stage, NAMESPACE, NAME)
            return
        time.sleep(1)
    raise TimeoutError(f"not all replicas run with {words}: {[said(pod) for pod in pods(stage)]}")


def scale(stage: Stage, replicas: int, timeout_s: float = 300) -> None:
    stage.cluster.kubectl("scale", "slmd", NAME, "--namespace", NAMESPACE, f"--replicas={replicas}")
    path = f"--for=jsonpath={{.status.replicas}}={replicas}"
    stage.cluster.kubectl(
        "wait", f"slmd/{NAME}", "--namespace", NAMESPACE, path, f"--timeout={timeout_s}s", timeout_s=timeout_s + 30
    )


def evict(stage: Stage, pod: dict[str, Any], timeout_s: float = 300) -> None:
    """As a drain does; gives back control when another has taken its place."""
    # The budget's status lags behind the replicas, and a drain would ask again until it allows one.
    allowed = ("--for=jsonpath={.status.disruptionsAllowed}=1", "--timeout=120s")
    stage.cluster.kubectl("wait", f"pdb/{NAME}", "--namespace", NAMESPACE, *allowed, timeout_s=150)
    replicas = len(pods(stage))
    name = pod["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{name}/eviction"
    stage.cluster.kubectl("create", "--raw", path, "--filename", "-", stdin=json.dumps(eviction))

    def is_replaced() -> bool:
        up = [one["metadata"]["uid"] for one in pods(stage) if ready(one)]
        return len(up) == replicas and pod["metadata"]["uid"] not in up

    until(is_replaced, timeout_s)
    wait_until_ready(stage, NAMESPACE, NAME)


def pods(stage: Stage) -> list[dict[str, Any]]:
    selector = ("--selector", f"slm-operator.io/deployment={NAME}")
    listed = stage.cluster.kubectl("get", "pods", "--namespace", NAMESPACE, *selector, "--output", "json")
    found: list[dict[str, Any]] = json.loads(listed)["items"]
    return found


def uids(stage: Stage) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods(stage)}


def restarts(stage: Stage) -> dict[str, int]:
    return {pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods(stage)}


def generation(stage: Stage) -> int:
    return int(stage.get("slmd", NAME, NAMESPACE)["metadata"]["generation"])


def said(pod: dict[str, Any]) -> str:
    engine = next(one for one in pod["spec"]["containers"] if one["name"] == "engine")
    return " ".join([engine["image"], *engine["args"]])


def ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    up = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return up and "deletionTimestamp" not in pod["metadata"]


def counters(stage: Stage, replicas: list[dict[str, Any]]) -> dict[str, Counters]:
    """What these replicas say of themselves, by their pods' names."""
    script = (
        "import json, sys, urllib.request\n"
        "def page(ip): return urllib.request.urlopen(f'http://{ip}:8000/metrics', timeout=30).read().decode()\n"
        "print(json.dumps({name: page(ip) for name, ip in json.loads(sys.argv[1]).items()}))"
    )
    addresses = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in replicas}
    reported = stage.cluster.kubectl(
        "exec", "--namespace", POD, POD, "--", "python3", "-c", script, json.dumps(addresses)
    )
    return {name: default().read_counters(page) for name, page in json.loads(reported).items()}


def itl_ms(stage: Stage, pod: dict[str, Any], seconds: float = 3) -> float:
    """Mean ITL of one replica over the next seconds, from its own counters."""
    (first,) = counters(stage, [pod]).values()
    time.sleep(seconds)  # a rate needs time: there is no event to await
    (last,) = counters(stage, [pod]).values()
    return 1000 * (last.itl_sum - first.itl_sum) / (last.itl_count - first.itl_count)


def on_node(stage: Stage, *command: str) -> str:
    return stage.cluster.engine.docker("exec", stage.cluster.node, *command)


def kill_engine(stage: Stage, pod: str) -> None:
    """SIGKILL to the engine's process, from its node: nobody is asked and nothing is drained."""
    listed = on_node(stage, "ctr", "--namespace", "k8s.io", "tasks", "list").splitlines()
    running = {words[0]: words[1] for words in map(str.split, listed[1:])}
    on_node(stage, "kill", "-9", running[container_id(stage, pod, NAMESPACE)])


@contextlib.contextmanager
def no_api_server(stage: Stage) -> Iterator[None]:
    """The API server taken from its node, as a broken upgrade does it."""
    manifest, parked = "/etc/kubernetes/manifests/kube-apiserver.yaml", "/etc/kubernetes/kube-apiserver.yaml"
    on_node(stage, "mv", manifest, parked)
    try:
        until(lambda: not answers(stage), timeout_s=300)
        yield
    finally:
        on_node(stage, "mv", parked, manifest)
        until(lambda: answers(stage), timeout_s=300)


def answers(stage: Stage) -> bool:
    try:
        stage.cluster.kubectl("get", "--raw", "/readyz", "--request-timeout=3s", timeout_s=20)
    except (KubectlError, subprocess.TimeoutExpired):
        return False
    return True


def until(wanted: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not wanted():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.5)


def assert_nothing_lost(account: Account, *, outage: bool = False) -> None:
    print(f"{account.ok} ok, {account.refused} refused, {account.failed} failed, {account.truncated} truncated")
    assert account.ok > 0
    assert account.truncated == 0, account.examples
    # NB: while every replica is going, kube-proxy still connects to them; who connects in the instant in which an engine
    # stops listening is disconnected without an answer, or reset by its kernel where it had not even taken the connection.
    # That is the outage too, and nobody's answer is cut off.
    ends = ("ServerDisconnectedError(", "ClientOSError(", "ConnectionResetError(")
    unheard = sum(": 0 of " in example and any(end in example for end in ends) for example in account.examples)
    assert account.failed <= (unheard if outage else 0), account.examples
    assert outage or account.refused == 0, account.examples
