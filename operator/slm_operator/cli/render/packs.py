"""What `kubectl slm plan` says of how GPUs would be divided: as far as it can be known before anything is applied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_operator.manifests.resources import engine_resources, pack_resources, requested
from slm_operator.partitioning.base import AUTO
from slm_operator.partitioning.node_slices import NODE_SLICES
from slm_operator.partitioning.pack_pod import PACK_POD

if TYPE_CHECKING:
    from slm_core.measurements import Ledger

    from slm_operator.advisor.advice import Advice
    from slm_operator.api.deployment import SLMDeploymentSpec


def divided(spec: SLMDeploymentSpec, advice: Advice, ledger: Ledger | None) -> str | None:
    """A sentence on who divides the GPU, and what a pod asks for; None where nobody shares one."""
    engines, asked = advice.configuration.engines_per_gpu, spec.sharing.partitioning
    if engines == 1:
        return None
    if asked == NODE_SLICES.name or spec.sharing.tenancy == "Shared":
        return f"{NODE_SLICES.name}: each engine has a pod of its own, with a slice of a GPU on a node that opted in."
    weights = ledger.weights_bytes if ledger is not None else None
    one = engine_resources(PACK_POD.resource, spec.pod_template or {}, weights)
    asks = requested(pack_resources(one, engines))
    wanted = engines if spec.replicas is None else spec.replicas
    amounts = ", ".join(f"{name} {asks[name]}" for name in ("cpu", "memory", PACK_POD.resource) if name in asks)
    pods = -(-wanted // engines)
    pack = f"{pods} pod{'' if pods == 1 else 's'} of {engines} engines, each with {amounts} and a router beside"
    if asked == AUTO:
        return f"{AUTO}: slices of a node that opted in, where one fits and {advice.configuration.sharing_mode} holds there; else {pack}."
    return f"{PACK_POD.name}: {pack}."
