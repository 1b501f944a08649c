"""Changes under load: nobody's request is lost, and what must not restart does not."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.testbed.stage import IMAGES, LIGHT_IMAGE, OPERATOR_NAMESPACE, ROOT

from .conftest import FAST
from .light import wait_for_reason, wait_until_ready
from .load import first_answer, steady_load
from .serving import (
    NAME,
    NAMESPACE,
    TOKEN_MS,
    assert_nothing_lost,
    counters,
    evict,
    generation,
    itl_ms,
    kill_engine,
    no_api_server,
    patch,
    pods,
    ready,
    restarts,
    said,
    scale,
    serving,
    uids,
    until,
    wait_until_rolled,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.testbed.stage import Stage

pytestmark = [pytest.mark.kind, pytest.mark.timeout(1800)]

NEXT_IMAGE = "slm-operator/engine-light:next"
OUTAGE_SECONDS = float(os.environ.get("SLM_OUTAGE_SECONDS", "60"))
"""Long enough for a node to be taken for dead when the API server is back."""


@pytest.fixture(scope="module")
def served(stage: Stage) -> Iterator[Stage]:
    with serving(stage) as ground:
        yield ground


def test_new_advice_rolls_engines_without_a_lost_request(served: Stage) -> None:
    before = uids(served)
    with steady_load(served, NAMESPACE, NAME) as load:
        patch(served, slo={"itl": {"maxMs": 8}})
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


def test_scaled_down_and_up(served: Stage) -> None:
    kept = uids(served)
    with steady_load(served, NAMESPACE, NAME) as load:
        scale(served, 1)
        scale(served, 2)
        wait_until_ready(served, NAMESPACE, NAME)
    assert_nothing_lost(load.account)
    assert len(kept & uids(served)) == 1


def test_replicas_scale_on_a_full_cluster_while_a_profile_waits(
    served: Stage, record_property: Callable[[str, str], None]
) -> None:
    """Profile and replicas want the only GPU at once: who answers goes on, and is scaled, on the advice of before."""
    kept, template = uids(served), deployment_of(served)["spec"]["template"]
    digest = served.get("slmd", NAME, NAMESPACE)["status"]["advice"]["digest"]
    with steady_load(served, NAMESPACE, NAME) as load:
        patch(served, engine={"maxModelLen": 512}, profiling={"profileRef": None})  # nobody has measured that
        try:
            seconds = [obeyed_after(served, replicas, digest) for replicas in (1, 2)]
        finally:
            patch(served, engine={"maxModelLen": 256}, profiling={"profileRef": {"name": "imported"}})
            wait_until_ready(served, NAMESPACE, NAME)
            delete_unmeasured(served)
        until(lambda: len(pods(served)) == 2, timeout_s=240)  # whoever had to go has answered all that it was asked
    down_s, up_s = seconds
    record_property("note", f"behind a waiting profile a scale was obeyed after {down_s:.1f} and {up_s:.1f} s")
    assert_nothing_lost(load.account)
    assert len(kept & uids(served)) == 1
    assert deployment_of(served)["spec"]["template"] == template


def obeyed_after(stage: Stage, replicas: int, digest: str) -> float:
    """Seconds from `kubectl scale` until the replicas' Deployment has the number, while a profile waits behind them."""
    kubectl, here = stage.cluster.kubectl, ("--namespace", NAMESPACE)
    wait_for_reason(stage, NAMESPACE, NAME, "GPUHeldByReplicas")
    began = time.monotonic()
    kubectl("scale", "slmd", NAME, *here, f"--replicas={replicas}")
    kubectl("wait", f"deployment/{NAME}", *here, f"--for=jsonpath={{.spec.replicas}}={replicas}", "--timeout=240s")
    seconds = time.monotonic() - began
    for wanted in (f"jsonpath={{.status.readyReplicas}}={replicas}", "condition=Available"):
        kubectl("wait", f"slmd/{NAME}", *here, f"--for={wanted}", "--timeout=240s")
    status = stage.get("slmd", NAME, NAMESPACE)["status"]
    conditions = {one["type"]: one for one in status["conditions"]}
    assert status["advice"]["digest"] == digest
    assert {name: conditions[name]["status"] for name in ("Ready", "Profiled", "Available")} == {
        "Ready": "Unknown",
        "Profiled": "False",
        "Available": "True",
    }
    assert conditions["Profiled"]["reason"] == "GPUHeldByReplicas"
    assert f"kubectl scale slmd {NAME} --namespace {NAMESPACE} --replicas=0" in conditions["Profiled"]["message"]
    return seconds


def deployment_of(stage: Stage) -> dict[str, Any]:
    return stage.get("deployment", NAME, NAMESPACE)


def delete_unmeasured(stage: Stage) -> None:
    """What was asked for and never measured: its pod would take the GPU from a later test."""
    listed = stage.cluster.kubectl("get", "slmp", "--namespace", NAMESPACE, "--output", "name")
    left = [name for name in listed.split() if not name.endswith("/imported")]
    if left:
        stage.cluster.kubectl("delete", *left, "--namespace", NAMESPACE, "--ignore-not-found")


def test_a_replica_evicted_as_a_drain_does(served: Stage) -> None:
    victim = pods(served)[0]
    with steady_load(served, NAMESPACE, NAME) as load:
        evict(served, victim)
    assert_nothing_lost(load.account)
    assert victim["metadata"]["uid"] not in uids(served)


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


def test_operator_upgrade_restarts_no_engine_and_judges_its_slo(served: Stage) -> None:
    kubectl = served.cluster.kubectl
    before = uids(served)
    with steady_load(served, NAMESPACE, NAME) as load:
        served.install_operator(*FAST, "config.watch.intervalSeconds=2")
        # The light engine takes 30 ms a token, the profile that was published promises 8: the watch must see that.
        missed = "--for=jsonpath={.status.conditions[?(@.type=='SLOMet')].reason}=SloMissed"
        kubectl("wait", f"slmd/{NAME}", "--namespace", NAMESPACE, missed, "--timeout=240s")
        kubectl("label", "slmd", NAME, "--namespace", NAMESPACE, "team=a")
        kubectl("annotate", "slmd", NAME, "--namespace", NAMESPACE, "note=b")
        patch(served, replicas=2, slo={"itl": {"maxMs": 8.5}})  # asks for the same batch
        observed = f"--for=jsonpath={{.status.observedGeneration}}={generation(served)}"
        kubectl("wait", f"slmd/{NAME}", "--namespace", NAMESPACE, observed, "--timeout=240s")
    assert_nothing_lost(load.account)
    assert uids(served) == before
    said_by_type = {one["type"]: one for one in served.get("slmd", NAME, NAMESPACE)["status"]["conditions"]}
    assert said_by_type["Ready"]["status"] == "True"
    assert said_by_type["SLOMet"]["status"] == "False"
    assert "over the limit of 8" in said_by_type["SLOMet"]["message"]


def test_killed_engine_loses_only_its_own_requests(served: Stage) -> None:
    victim, neighbour = pods(served)
    clients = 16  # all of them on the neighbour: once in 65,000
    with steady_load(served, NAMESPACE, NAME, clients=clients) as load:
        before = itl_ms(served, neighbour)
        kill_engine(served, victim["metadata"]["name"])
        during = itl_ms(served, neighbour)
        restarted = "--for=jsonpath={.status.containerStatuses[0].restartCount}=1"
        name = victim["metadata"]["name"]
        served.cluster.kubectl("wait", f"pod/{name}", "--namespace", NAMESPACE, restarted, "--timeout=240s")
        wait_until_ready(served, NAMESPACE, NAME)
        after = itl_ms(served, neighbour)
    account = load.account
    print(f"{account.ok} ok, {account.refused} refused, {account.failed} failed, {account.truncated} truncated")
    print(f"the neighbour's ITL: {before:.1f} ms before, {during:.1f} ms meanwhile, {after:.1f} ms after")
    # Its own: what it was answering. Whoever connects before the Service forgets it is refused, and may ask again.
    assert 0 < account.truncated + account.failed <= clients, account.examples
    assert restarts(served)[neighbour["metadata"]["name"]] == 0


def test_engines_serve_on_without_operator_and_api_server(served: Stage) -> None:
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


def make_three(stage: Stage) -> None:
    patch(stage, sharing={"enginesPerGpu": 3}, replicas=3)
    stage.wait_for_allocatable("nvidia.com/gpu.shared", 3)
    wait_until_ready(stage, NAMESPACE, NAME)


def test_class_change_of_only_node_refuses_and_cuts_nobody_off(served: Stage) -> None:
    """A planned outage: the node's only GPU is repartitioned, so for a while there is nobody to connect to."""
    with steady_load(served, NAMESPACE, NAME) as load:
        make_three(served)
    assert_nothing_lost(load.account, outage=True)
    assert len(pods(served)) == 3


def shares(stage: Stage, clients: int, requests: int, *, kept: bool) -> list[float]:
    """Share of each replica in the requests of one load, the largest first."""

    def counts() -> list[float]:
        return [now.finished - before[name].finished for name, now in counters(stage, pods(stage)).items()]

    with steady_load(stage, NAMESPACE, NAME, clients=clients, tokens=4, kept=kept):
        before = counters(stage, pods(stage))
        until(lambda: sum(counts()) >= requests, timeout_s=300)
    found = sorted(counts(), reverse=True)
    print(f"{clients} connections {'kept' if kept else 'at once, each for one request'}: {found}")
    return [count / sum(found) for count in found]


def test_how_evenly_the_service_loads_three_replicas(served: Stage) -> None:
    make_three(served)
    new = shares(served, clients=8, requests=600, kept=False)
    many = shares(served, clients=30, requests=600, kept=True)
    few = shares(served, clients=2, requests=150, kept=True)
    assert new[0] < 0.45, "a replica for each request, by chance: 6 standard deviations from a third"
    assert many[-1] > 0, "thirty connections miss one of three replicas once in 100,000"
    assert few[-1] == 0, "two connections reach at most two replicas"


def test_first_request_after_zero_waits_for_node_and_engine(served: Stage) -> None:
    scale(served, 0)
    served.wait_for_allocatable("nvidia.com/gpu", 1)
    asked_at = datetime.now(UTC)
    served.cluster.kubectl("scale", "slmd", NAME, "--namespace", NAMESPACE, "--replicas=1")
    waited_s = first_answer(served, NAMESPACE, NAME)
    (pod,) = pods(served)
    # The API server's times are whole seconds.
    scheduled = next(one for one in pod["status"]["conditions"] if one["type"] == "PodScheduled")
    cut_s = (datetime.fromisoformat(scheduled["lastTransitionTime"]) - asked_at).total_seconds()
    print(f"from zero to the first answer: {waited_s:.1f} s, of them about {cut_s:.0f} s until the node had slices")
