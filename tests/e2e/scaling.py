"""What both autoscalers' tests share: the guide's objects, a deployment that can be overloaded, waits on its replicas."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import yaml

from tests.testbed.stage import ROOT

from .light import light

if TYPE_CHECKING:
    from tests.testbed.stage import Stage

    from .load import Account

NAMESPACE = "autoscaling"
NAME = "chat"
FEW, MANY = 2, 56
"""Clients. At 24 requests a replica the many ask for three replicas; one takes 64 before it answers 503."""
STEP_MS = {"name": "LIGHT_ENGINE_STEP_MS", "value": "200"}
"""So slow that clients on a busy machine keep their requests in the engines, too."""


def guide() -> list[Any]:
    """The YAML documents of the guide, in their order."""
    page = (ROOT / "docs/guides/autoscaling.md").read_text()
    blocks = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return [document for block in blocks for document in yaml.safe_load_all(block)]


def of_kind(kind: str) -> list[dict[str, Any]]:
    """The guide's objects of this kind; queries ask for the test's namespace."""
    found = [document for document in guide() if document.get("kind") == kind]
    for trigger in (one for document in found for one in document["spec"].get("triggers", ())):
        trigger["metadata"]["query"] = trigger["metadata"]["query"].replace('"team"', f'"{NAMESPACE}"')
    return found


def scalable() -> dict[str, Any]:
    """A deployment without spec.replicas on a GPU that is cut in three."""
    spec = {"engine": {"env": [STEP_MS]}, "profiling": {"profile": "imported"}, "slo": {"itlMs": 8}}
    return light(NAME, **spec, sharing={"replicasPerGpu": 3})


def wait_for_replicas(stage: Stage, replicas: int, timeout_s: int = 400) -> float:
    """Wait until so many replicas are there and ready, and none is going; seconds waited."""
    began = time.monotonic()
    for field in ("replicas", "readyReplicas"):
        path = f"--for=jsonpath={{.status.{field}}}={replicas}"
        stage.cluster.kubectl(
            "wait", f"slmd/{NAME}", "--namespace", NAMESPACE, path, f"--timeout={timeout_s}s", timeout_s=timeout_s + 30
        )
    return time.monotonic() - began


def assert_nothing_lost(account: Account) -> None:
    print(f"{account.ok} ok, {account.refused} refused, {account.failed} failed, {account.truncated} truncated")
    assert account.ok > 0
    assert (account.refused, account.failed, account.truncated) == (0, 0, 0), account.examples
