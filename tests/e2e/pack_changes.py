"""The changes of changes.py for packs in pods: the same questions, where what is replaced is a pod of several engines.

Deployments are made with `asked`, on a bare node of three GPUs, two of which serve: a successor finds the third. A drain
is the exception, for it takes the only node.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from tests import builders as build

from .changes import ADVISED, Change, new_arguments, new_image, new_model, spec
from .light import light, wait_until_ready
from .serving import NAME, NAMESPACE, TOKEN_MS, patch, scale, wait_until_rolled

if TYPE_CHECKING:
    from tests.testbed.stage import Stage

MEASURED = build.published("opt-1.3b")
"""With a ledger: the engines of a pack need their KV bytes."""
ENGINES = 2
GPUS = 3


def asked(name: str = NAME, **more: Any) -> dict[str, Any]:
    """Two packs of two, on advice from a published profile."""
    base: dict[str, Any] = {
        "engine": {"env": [TOKEN_MS]},
        "profiling": {"profileRef": {"name": "imported"}},
        "slo": {"itl": {"maxMs": 12}},
        "replicas": 2 * ENGINES,
    }
    return light(name, **(base | more))


def new_advice(stage: Stage, most_seconds: float) -> None:
    (itl_ms,) = ADVISED.keys() - {spec(stage)["slo"]["itl"]["maxMs"]}
    patch(stage, slo={"itl": {"maxMs": itl_ms}})
    wait_until_rolled(stage, f"--batch-size {ADVISED[itl_ms]}", most_seconds)


def drained(stage: Stage, most_seconds: float) -> None:
    """`kubectl drain` of the only node: what ends is announced, and the drain is not held for ever."""
    kubectl, node = stage.cluster.kubectl, stage.cluster.node
    whose = (f"--pod-selector=slm-operator.io/deployment={NAME}", "--ignore-daemonsets", "--delete-emptydir-data")
    try:
        kubectl("drain", node, *whose, f"--timeout={most_seconds:.0f}s", timeout_s=most_seconds + 30)
    finally:
        kubectl("uncordon", node)
    wait_until_rolled(stage, "", most_seconds)


def scaled_down_and_up(stage: Stage, most_seconds: float) -> None:
    scale(stage, ENGINES, most_seconds)
    scale(stage, 2 * ENGINES, most_seconds)
    wait_until_ready(stage, NAMESPACE, NAME, most_seconds)


def another_class(stage: Stage, most_seconds: float) -> None:
    """One more engine a GPU, for which no node has to be reconfigured."""
    patch(stage, sharing={"enginesPerGpu": ENGINES + 1})
    wait_until_rolled(stage, f"--engines-per-gpu {ENGINES + 1}", most_seconds)


CHANGES = (
    Change("new arguments", new_arguments),
    Change("new advice", new_advice),
    Change("new engine image", new_image),
    Change("new model", partial(new_model, document=MEASURED)),
    Change("the only node drained", drained, outage=True),
    Change("scaled to half and back", scaled_down_and_up),
    Change("another number of engines a GPU", another_class),
)
