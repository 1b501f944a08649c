"""How the replicas of a deployment are spread over GPUs. The kubelet decides that, and nothing can force it (docs/concepts/gpu-sharing.md, 20).

The advice is about packs of R engines. A node's slices never put more than R engines onto a GPU, so a replica with fewer
co-tenants has more of the GPU than was measured: an unlucky placement never costs speed. It costs no room either, because all
free slots of a node are alike. It can cost a node, when replicas of one deployment lie on two nodes that would fit on one.
That is corrected when a deployment lacks slots (placement.py), and not before, because a move costs a load of the model.
Here it is only reported. Must never move anything.
"""

from __future__ import annotations

from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from slm_operator.partitioning.node_slices import gpu_of_device

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from slm_operator.watch.records import PodRecord


NOTHING_REPORTED: Mapping[str, int] = MappingProxyType({})
SHOWN = 8
"""Shares that a sentence names; status lists them all, up to its bound."""


def packs(pods: Iterable[PodRecord], serving: Mapping[str, int] = NOTHING_REPORTED) -> list[dict[str, Any]]:
    """`status.packs`: engines by node and, where the kubelet tells device ids, by GPU. `serving`: those that do, by uid of a pack's pod."""
    engines: Counter[tuple[str, str]] = Counter()
    ready: Counter[tuple[str, str]] = Counter()
    for pod in pods:
        if pod.node is not None and pod.holds_gpu:
            engines[pod.node, _gpu(pod)] += pod.engines
            ready[pod.node, _gpu(pod)] += min(serving.get(pod.meta.uid, pod.engines), pod.engines) * pod.ready
    return [
        {"node": node, **({"gpuUUID": gpu} if gpu else {}), "engines": count, "readyEngines": ready[node, gpu]}
        for (node, gpu), count in sorted(engines.items())
    ]


def spread(pods: Iterable[PodRecord], engines_per_gpu: int) -> str | None:
    """What to say of replicas on more GPUs than their packs need; None where they are not, or the kubelet does not tell."""
    found = packs(pods)
    if not all("gpuUUID" in pack for pack in found):
        return None
    shares = sorted((pack["engines"] for pack in found), reverse=True)
    needed = -(-sum(shares) // engines_per_gpu)
    if len(shares) <= needed:
        return None
    counts = " + ".join([*map(str, shares[:SHOWN]), *(["..."] if len(shares) > SHOWN else [])])
    return (
        f"they are on {len(shares)} GPUs ({counts}) where packs of {engines_per_gpu} need {needed}: "
        "none is slower for it than was measured, so none is moved"
    )


def _gpu(pod: PodRecord) -> str:
    """UUID of the pod's GPU."""
    return gpu_of_device(next(iter(sorted(pod.resource_health)), ""))
