"""Packs in pods under load: every change, an engine that is killed, an autoscaler, and what was measured against what is served.

A recorded run on a bare node of three GPUs with the light engine, `make record packs`. In `make test` two real vLLM are
measured and served as a pack, and changed once (test_first_pack.py).
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from slm_core.codec import parse_document

from tests.testbed.metrics_pipeline import custom_metrics, scraping

from .bare import bare, restricted_namespace
from .changes import ADVISED, Change, keep, outcome
from .light import applied, import_profile, light, wait_until_ready
from .load import POD, place_client, steady_load
from .pack_changes import CHANGES, ENGINES, GPUS, MEASURED, asked
from .scaling import STEP_MS, guide, of_kind
from .serving import NAME, NAMESPACE, assert_nothing_lost, pods, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.stage import Stage

pytestmark = [pytest.mark.kind, pytest.mark.record, pytest.mark.timeout(1500)]

CHANGE_SECONDS = 400
IN_FLIGHT = 16
WINDOWS, WINDOW_SECONDS = 20, 4.0
STUDENT_95 = 2.093
"""Of 19 degrees of freedom: WINDOWS less one."""
COUNTED = """
import json, sys, time, urllib.request
url, windows, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
def read():
    page = urllib.request.urlopen(url, timeout=30).read().decode().splitlines()
    return time.monotonic(), sum(float(x.rsplit(" ", 1)[1]) for x in page if x.startswith("vllm:generation_tokens_total{"))
seen = [read()]
for _ in range(windows):
    time.sleep(max(0.0, seen[0][0] + seconds * len(seen) - time.monotonic()))
    seen.append(read())
print(json.dumps(seen))
"""
KILLED = """
import json, os, signal, time, urllib.request
def page(port, path): return urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10).read().decode()
def engine(): return json.loads(page(8001, "/status"))["engines"][0]
victim, began = engine(), time.monotonic()
os.kill(victim["pid"], signal.SIGSTOP)  # so that what it has in flight can be counted
sessions = 'haproxy_server_current_sessions{proxy="engines",server="engine-0"}'
(in_flight,) = (float(x.rsplit(" ", 1)[1]) for x in page(8002, "/metrics").splitlines() if x.startswith(sessions))
os.kill(victim["pid"], signal.SIGKILL)
while (now := engine())["starts"] == victim["starts"] or now["phase"] != "Ready":
    time.sleep(0.1)
print(json.dumps({"inFlight": int(in_flight), "seconds": round(time.monotonic() - began, 1)}))
"""


@pytest.fixture(scope="module")
def ground(stage: Stage) -> Iterator[Stage]:
    """A restricted namespace on a bare node of three GPUs, with a published profile, and a client."""
    with bare(stage, GPUS):
        restricted_namespace(stage, NAMESPACE)
        import_profile(stage, NAMESPACE, document=MEASURED)
        place_client(stage)
        yield stage
        stage.cluster.kubectl("delete", "namespace", POD)
        stage.cluster.kubectl("delete", "namespace", NAMESPACE, timeout_s=240)


def test_what_was_measured_is_what_is_served(ground: Stage) -> None:
    """Output tokens per second, by the engines' own counters, with as many requests in flight as the profile had."""
    shape = {"inputTokens": 32, "outputTokens": 64, "concurrencyPerGpu": IN_FLIGHT}
    slow = {"env": [{"name": "LIGHT_ENGINE_STEP_MS", "value": "50"}]}
    spec = {"engine": slow, "workload": shape, "slo": {"itl": {"maxFactor": 4}}, "profiling": {"maxGpuMinutes": 6}}
    with applied(ground, NAMESPACE, light("measured", **spec)):
        wait_until_ready(ground, NAMESPACE, "measured", 900)
        said = ground.get("slmd", "measured", NAMESPACE)["status"]
        profile = ground.get("slmp", said["profile"]["name"], NAMESPACE)["status"]
        points = parse_document(profile["measurements"]).points
        of_pack = [one for one in points if one.replicas == ENGINES and one.load == IN_FLIGHT]
        point = next((one for one in of_pack if one.confirmed), of_pack[-1])
        with steady_load(ground, NAMESPACE, "measured", clients=IN_FLIGHT, tokens=64) as load:
            rates = output_rates(ground, f"http://measured.{NAMESPACE}/metrics")
    mean = statistics.fmean(rates)
    half_width = STUDENT_95 * statistics.stdev(rates) / math.sqrt(len(rates)) / mean
    reported = {
        "batchSize": said["advice"]["configuration"]["batchSize"],
        "inFlight": IN_FLIGHT,
        "measured": round(point.output_tokens_per_second, 1),
        "measuredHalfWidth": point.throughput_ci_fraction,
        "served": round(mean, 1),
        "servedHalfWidth": round(half_width, 4),
    }
    print(reported)
    keep("throughput", reported | outcome(load.account))
    assert said["sharing"]["partitioning"] == "PackPod"
    assert_nothing_lost(load.account)


def output_rates(stage: Stage, url: str) -> list[float]:
    """Output tokens per second in each of the windows."""
    asked_in = ("exec", "--namespace", POD, POD, "--", "python3", "-c", COUNTED, url, str(WINDOWS), str(WINDOW_SECONDS))
    seen = json.loads(stage.cluster.kubectl(*asked_in, timeout_s=300))
    return [(after[1] - before[1]) / (after[0] - before[0]) for before, after in itertools.pairwise(seen)]


def test_an_autoscaler_goes_up_by_engines_of_packs(ground: Stage) -> None:
    """At 1.5 times its target four engines become six, and those are two packs: rule, metric and target are the guide's."""
    kubectl = ground.cluster.kubectl
    rules = next(document for document in guide() if "rules" in document)
    (autoscaler,) = of_kind("HorizontalPodAutoscaler")
    autoscaler["spec"]["maxReplicas"] = 8
    engines, batch = 4, ADVISED[8]
    clients = round(engines * 1.5 * 0.75 * batch)
    spec = {"engine": {"env": [STEP_MS]}, "slo": {"itl": {"maxMs": 8}}, "sharing": {"enginesPerGpu": engines}}
    manifest = asked(**spec, replicas=engines)
    with scraping(ground), applied(ground, NAMESPACE, manifest):
        wait_until_ready(ground, NAMESPACE, NAME)
        metric = autoscaler["spec"]["metrics"][0]["object"]["metric"]["name"]
        with custom_metrics(ground, yaml.safe_dump(rules), metric):
            kubectl("apply", "--namespace", NAMESPACE, "--filename", "-", stdin=json.dumps(autoscaler))
            began = time.monotonic()
            with steady_load(ground, NAMESPACE, NAME, clients=clients, tokens=16) as load:
                until(lambda: scale_of(ground) == (6, 8, 8, 2), timeout_s=CHANGE_SECONDS)
                seconds = time.monotonic() - began
            kubectl("delete", "hpa", "--all", "--namespace", NAMESPACE)
    keep("autoscaler", {"seconds": round(seconds), "clients": clients} | outcome(load.account))
    assert_nothing_lost(load.account)


def scale_of(stage: Stage) -> tuple[Any, ...]:
    """Engines that are wanted, that are there, that answer; pods."""
    found = stage.get("slmd", NAME, NAMESPACE)
    status = found["status"]
    counted = (status.get("replicas"), status.get("readyReplicas"), (status.get("sharing") or {}).get("pods"))
    return (found["spec"].get("replicas"), *counted)


@pytest.fixture(scope="module")
def served(ground: Stage) -> Iterator[Stage]:
    """Two packs of two on three GPUs."""
    with applied(ground, NAMESPACE, asked()):
        wait_until_ready(ground, NAMESPACE, NAME, timeout_s=500)
        yield ground


def test_a_killed_engine_costs_its_own_requests_alone(served: Stage) -> None:
    pod = pods(served)[0]["metadata"]["name"]
    with steady_load(served, NAMESPACE, NAME, clients=24) as load:
        inside = ("exec", "--namespace", NAMESPACE, pod, "--container", "engine", "--", "python3", "-c", KILLED)
        killed = json.loads(served.cluster.kubectl(*inside, timeout_s=300))
    account = load.account
    print(killed, outcome(account))
    keep("an engine killed", killed | outcome(account))
    assert 0 < account.truncated + account.failed <= killed["inFlight"], account.examples
    assert account.refused == 0


@pytest.mark.parametrize("change", CHANGES, ids=[change.name for change in CHANGES])
def test_packs_change_under_load(served: Stage, change: Change) -> None:
    with steady_load(served, NAMESPACE, NAME) as load:
        began = time.monotonic()
        change.make(served, CHANGE_SECONDS)
        seconds = time.monotonic() - began
    keep(change.name, {"seconds": round(seconds), "outage": change.outage} | outcome(load.account))
    assert_nothing_lost(load.account, outage=change.outage)
