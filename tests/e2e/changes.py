"""The changes that a deployment under load must survive: the same for every engine and any number of replicas.

    with steady_load(stage, NAMESPACE, NAME) as load:
        change.make(stage, 900)
    keep(change.name, outcome(load.account))
    assert_nothing_lost(load.account, outage=change.outage)

Each gives back control when all replicas are as was asked and answer, and raises TimeoutError where that takes longer
than it was given. The deployment is NAME in NAMESPACE, with advice from the published profile under one of ADVISED.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.provenance import environment

from .light import import_profile, wait_until_ready
from .serving import NAME, NAMESPACE, evict, on_node, patch, pods, scale, wait_until_rolled

if TYPE_CHECKING:
    from collections.abc import Callable

    from slm_core.measurements import MeasurementDocument

    from tests.testbed.stage import Stage

    from .load import Account

ADVISED = {8: 32, 12: 64}
"""Batches that the published profile advises, by ITL in ms."""


class Change(NamedTuple):
    """A change under load. `outage`: for a while nobody is there to connect to."""

    name: str
    make: Callable[[Stage, float], None]
    outage: bool = False


def new_arguments(stage: Stage, most_seconds: float) -> None:
    patch(stage, engine={"args": [*spec(stage)["engine"].get("args", []), "--seed", "7"]})
    wait_until_rolled(stage, "--seed 7", most_seconds)


def new_advice(stage: Stage, most_seconds: float) -> None:
    (itl_ms,) = ADVISED.keys() - {spec(stage)["slo"]["itl"]["maxMs"]}
    patch(stage, slo={"itl": {"maxMs": itl_ms}})
    wait_until_rolled(stage, f"--max-num-seqs {ADVISED[itl_ms]}", most_seconds)


def new_image(stage: Stage, most_seconds: float) -> None:
    image = spec(stage)["engine"]["image"]
    following = f"{image.rpartition(':')[0]}:next"
    tags = (f"docker.io/{each}" for each in (image, following))
    on_node(stage, "ctr", "--namespace", "k8s.io", "images", "tag", "--force", *tags)
    patch(stage, engine={"image": following})
    wait_until_rolled(stage, following, most_seconds)


def new_model(stage: Stage, most_seconds: float, document: MeasurementDocument | None = None) -> None:
    """Other files under another name, with a profile of their own: what a new revision on a claim is."""
    stage.provide_models_as(NAMESPACE, "models-next")
    import_profile(stage, NAMESPACE, "next", "pvc://models-next/opt-tiny", document)
    patch(stage, model={"uri": "pvc://models-next/opt-tiny"}, profiling={"profileRef": {"name": "next"}})
    wait_until_rolled(stage, "models-next", most_seconds)


def one_evicted(stage: Stage, most_seconds: float) -> None:
    """What `kubectl drain` asks for: the only node cannot go whole."""
    evict(stage, pods(stage)[0], most_seconds)


def scaled_down_and_up(stage: Stage, most_seconds: float) -> None:
    replicas = len(pods(stage))
    scale(stage, replicas // 2, most_seconds)
    scale(stage, replicas, most_seconds)
    wait_until_ready(stage, NAMESPACE, NAME, most_seconds)


def another_class(stage: Stage, most_seconds: float) -> None:
    """One more slice a GPU: on the only node a planned outage."""
    per_gpu = spec(stage)["sharing"]["enginesPerGpu"] + 1
    gpus = int(stage.get("node", stage.cluster.node)["metadata"]["labels"]["nvidia.com/gpu.count"])
    patch(stage, sharing={"enginesPerGpu": per_gpu})
    stage.wait_for_allocatable("nvidia.com/gpu.shared", per_gpu * gpus, timeout_s=400)
    wait_until_ready(stage, NAMESPACE, NAME, most_seconds)


CHANGES = (
    Change("new arguments", new_arguments),
    Change("new advice", new_advice),
    Change("new engine image", new_image),
    Change("new model", new_model),
    Change("a replica evicted", one_evicted),
    Change("scaled to half and back", scaled_down_and_up),
    Change("another class on the only node", another_class, outage=True),
)


def spec(stage: Stage) -> dict[str, Any]:
    found: dict[str, Any] = stage.get("slmd", NAME, NAMESPACE)["spec"]
    return found


def outcome(account: Account) -> dict[str, Any]:
    """What became of the requests."""
    return {kind: getattr(account, kind) for kind in ("ok", "refused", "failed", "truncated")}


def keep(name: str, reported: dict[str, Any]) -> None:
    """Into the record, where SLM_RECORD says, beside what it has of other tests: at once, so that none is lost."""
    if record := os.environ.get("SLM_RECORD"):
        path = Path(record)
        kept = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(kept | {name: reported | {"about": environment()}}, indent=1) + "\n")
