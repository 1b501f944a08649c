"""What replicas were made from, kept on their Deployment as an annotation.

Exists so that they go on, and can be scaled, while their SLMDeployment cannot be followed: another profile is measured,
say, or it was deleted. It is read off the Deployment, so an operator that has just started knows it, and one that finds
no status (a restored object has none) does too. Must never hold what changes without the engines: a restart of the
operator, a status or a generation would be a write each.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from slm_operator.api.base import Name, Part, Product
from slm_operator.api.status import ConfigurationStatus
from slm_operator.decoding import decode

AdvisedFrom = Literal["Measured", "Predicted", "UserChoice"]


class PackMeans(Part):
    """What of a pack's pod comes from the operator's settings: kept until something else changes the pod."""

    supervisor_image: Annotated[str, Field(max_length=1024)]
    """Image with the runtime, which an init container copies into the engine's."""
    router_image: Annotated[str, Field(max_length=1024)]
    """Image of HAProxy."""
    device: Literal["gpu", "cpu"] = "gpu"
    """What the supervisor is to find; `cpu` only where the GPUs are stand-ins."""
    pull_secrets: tuple[str, ...] = ()
    """Names of the Secrets by which the first is pulled."""
    product_labels: dict[str, str] = Field(default={})
    """Value of each further label of nodes that tells this product."""


class ServedPack(Part):
    """A pod that runs all engines of a GPU."""

    means: PackMeans
    pod: Annotated[str, Field(max_length=64)]
    """Digest of the pod template but for its means: while it is the same, they stay."""


class Served(Part):
    """The advice in short, and the nodes that it was followed on."""

    profile: Name
    """Name of the SLMProfile that the advice rests on."""
    digest: Annotated[str, Field(max_length=64)]
    """Of what each engine is started with."""
    source: AdvisedFrom
    """As in `status.advice`."""
    feasible: bool = True
    """Whether the SLO could be met."""
    configuration: ConfigurationStatus
    """Of one GPU."""
    slice_bytes: Annotated[int, Field(ge=0)] | None = None
    """GPU memory of one engine."""
    product: Product | None = None
    """The one that they select: named in spec, or measured on."""
    bound: Literal[True] | None = None
    """They were made for that product alone, and those that want a whole GPU are kept off parts. None: by an earlier version, which
    did neither."""
    node_selector: dict[str, str] = Field(default={})
    tolerations: list[dict[str, JsonValue]] = Field(default=[])
    """Of the pods, those of the user's own template among them."""
    shared_tenancy: bool = False
    defaults: dict[str, JsonValue] | None = None
    """The operator's defaults that they were made with, as in `status.defaults`. None: by an earlier version, with none."""
    pack: ServedPack | None = None
    """Where one pod runs all engines of a GPU. None: each has a pod of its own."""

    def text(self) -> str:
        """As the annotation has it."""
        return json.dumps(self.given(), sort_keys=True, separators=(",", ":"))


def read_served(text: str | None) -> Served | None:
    """What an annotation says. None for one that is missing, or that somebody has broken."""
    if text is None:
        return None
    try:
        return Served.model_validate(decode(text))
    except ValueError:  # pydantic's is one
        return None
