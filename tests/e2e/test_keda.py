"""KEDA on recorded demand, and from zero on one of what stands before them, as docs/how-to/autoscaling.md has it.

A recorded run, for KEDA's build takes ten minutes when cold: `make record keda`.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.testbed.keda import keda
from tests.testbed.metrics_pipeline import scraping
from tests.testbed.stage import LIGHT_IMAGE

from .changes import keep
from .light import applied, wait_until_ready
from .load import POD, first_answer
from .scaling import NAME, NAMESPACE, assert_scaled_with_load, of_kind, scalable, wait_for_replicas
from .serving import ground

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.stage import Stage

pytestmark = [
    pytest.mark.kind,
    pytest.mark.timeout(3600),
    pytest.mark.record,
]
COOLDOWN_S = 15
"""The guide's five minutes are for models that take minutes to start."""
FRONT = """
import asyncio, sys
import aiohttp
from aiohttp import web
in_flight = 0

async def ask(request):
    "Passes a request on, again and again as long as nobody is there."
    global in_flight
    in_flight, body = in_flight + 1, await request.read()
    try:
        while True:
            try:
                async with aiohttp.ClientSession() as session, session.post(sys.argv[1], data=body) as answer:
                    return web.Response(status=answer.status, body=await answer.read())
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.1)
    finally:
        in_flight -= 1

async def metrics(_):
    return web.Response(text='gateway_requests_in_flight{model="chat"} %d\\n' % in_flight)

app = web.Application()
app.add_routes([web.get("/metrics", metrics), web.post("/v1/completions", ask)])
web.run_app(app, port=8000)
"""
"""What a gateway is to an autoscaler: it holds what cannot be answered yet, and says how much that is."""


@pytest.fixture(scope="module")
def served(stage: Stage) -> Iterator[Stage]:
    """KEDA beside a deployment without spec.replicas, and a front before it."""
    with scraping(stage), keda(stage), ground(stage, NAMESPACE), applied(stage, NAMESPACE, scalable()):
        wait_until_ready(stage, NAMESPACE, NAME)
        stage.apply(*front())
        stage.cluster.kubectl("wait", "pod/front", "--namespace", POD, "--for=condition=Ready", "--timeout=240s")
        yield stage


def front() -> tuple[dict[str, Any], dict[str, Any]]:
    """In the clients' namespace: a pod that the pipeline scrapes, and its Service."""
    url = f"http://{NAME}.{NAMESPACE}/v1/completions"
    engine = {"name": "front", "image": LIGHT_IMAGE, "command": ["python3", "-c", FRONT, url]}
    engine["ports"] = [{"name": "metrics", "containerPort": 8000}]
    engine["readinessProbe"] = {"httpGet": {"path": "/metrics", "port": 8000}, "periodSeconds": 1}
    labels = {"app.kubernetes.io/name": "front"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "front", "namespace": POD, "labels": labels},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [engine]},
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "front", "namespace": POD},
        "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8000}]},
    }
    return pod, service


@contextlib.contextmanager
def scaled(stage: Stage, asked: dict[str, Any]) -> Iterator[None]:
    """A ScaledObject that KEDA has taken; afterwards it is gone, and its autoscaler too."""
    kubectl, where = stage.cluster.kubectl, ("--namespace", NAMESPACE)
    behavior = {"scaleDown": {"stabilizationWindowSeconds": COOLDOWN_S}}
    asked["spec"] |= {
        "cooldownPeriod": COOLDOWN_S,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior}},
    }
    kubectl("apply", *where, "--filename", "-", stdin=json.dumps(asked))
    try:
        kubectl("wait", f"scaledobject/{NAME}", *where, "--for=condition=Ready", "--timeout=240s")
        yield
    finally:
        kubectl("delete", "scaledobject", NAME, *where, timeout_s=120)


def test_autoscaling_to_three_replicas_and_back_loses_nothing(served: Stage) -> None:
    by_engines, _ = of_kind("ScaledObject")
    with scaled(served, by_engines):
        wait_for_replicas(served, 1)  # from one full pack, the operator's own number
        keep("KEDA, with its load", assert_scaled_with_load(served))


def test_to_zero_without_requests_and_from_zero_for_the_first(served: Stage) -> None:
    _, from_zero = of_kind("ScaledObject")
    with scaled(served, from_zero):
        idle_s = wait_for_replicas(served, 0)
        served.cluster.kubectl("wait", "--for=delete", "pods", "--all", "--namespace", NAMESPACE, "--timeout=240s")
        waited_s = first_answer(served, POD, "front", model=NAME, timeout_s=400)
        print(f"{idle_s:.0f} s to zero; the first answer came {waited_s:.1f} s after it was asked for")
        wait_for_replicas(served, 1)
    keep("KEDA, from zero", {"toZeroSeconds": round(idle_s), "firstAnswerSeconds": round(waited_s, 1)})
