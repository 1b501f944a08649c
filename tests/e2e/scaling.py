"""What both autoscalers' tests share: the guide's objects, a deployment that can be overloaded, waits on its replicas."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import yaml

from tests.testbed.stage import ROOT

from .changes import outcome
from .light import light
from .load import steady_load
from .serving import assert_nothing_lost

if TYPE_CHECKING:
    from tests.testbed.stage import Stage

NAMESPACE = "autoscaling"
NAME = "chat"
FEW, MANY = 2, 56
"""Clients. With batches of 32 the many are a demand of 1.75 and, at 0.75 each, of three replicas; one takes 64 before it answers 503."""
STEP_MS = {"name": "LIGHT_ENGINE_STEP_MS", "value": "200"}
"""So slow that clients on a busy machine keep their requests in the engines, too."""


def guide() -> list[Any]:
    """The YAML documents of the guide, in their order."""
    page = (ROOT / "docs/how-to/autoscaling.md").read_text()
    blocks = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return [document for block in blocks for document in yaml.safe_load_all(block)]


def of_kind(kind: str) -> list[dict[str, Any]]:
    """The guide's objects of this kind; queries ask for the test's namespace."""
    found = [document for document in guide() if document.get("kind") == kind]
    for trigger in (one for document in found for one in document["spec"].get("triggers", ())):
        trigger["metadata"]["query"] = trigger["metadata"]["query"].replace('"team"', f'"{NAMESPACE}"')
    return found


def scalable() -> dict[str, Any]:
    """A deployment without spec.replicas on a GPU of three slices."""
    spec = {
        "engine": {"env": [STEP_MS]},
        "profiling": {"profileRef": {"name": "imported"}},
        "slo": {"itl": {"maxMs": 8}},
    }
    return light(NAME, **spec, sharing={"enginesPerGpu": 3})


def wait_for_replicas(stage: Stage, replicas: int, timeout_s: int = 400) -> float:
    """Wait until so many replicas are there and ready, and none is going; seconds waited."""
    began = time.monotonic()
    for field in ("replicas", "readyReplicas"):
        path = f"--for=jsonpath={{.status.{field}}}={replicas}"
        stage.cluster.kubectl(
            "wait", f"slmd/{NAME}", "--namespace", NAMESPACE, path, f"--timeout={timeout_s}s", timeout_s=timeout_s + 30
        )
    return time.monotonic() - began


def assert_scaled_with_load(stage: Stage) -> dict[str, Any]:
    """From one replica to three under load and back after it, with nobody's request lost; how long that took."""
    with steady_load(stage, NAMESPACE, NAME, clients=FEW, tokens=16) as few:
        began = time.monotonic()
        with steady_load(stage, NAMESPACE, NAME, clients=MANY, tokens=16) as many:
            wait_for_replicas(stage, 3)
            up_s = time.monotonic() - began
        down_s = wait_for_replicas(stage, 1)
    print(f"{up_s:.0f} s from load to three replicas, {down_s:.0f} s from its end to one")
    for account in (many.account, few.account):
        assert_nothing_lost(account)
    return {"upSeconds": round(up_s), "downSeconds": round(down_s), "clients": FEW + MANY} | outcome(many.account)
