"""What an administrator sets once for every engine of the cluster: the operator's defaults.

A spec wins over them. What a deployment was first made with stays its own (planning/deployment/kept.py), so that a changed
default restarts nothing. Must never hold what decides how GPUs are shared: that is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, ValidationError
from slm_core.engines.registry import ENGINES

from slm_operator.api.addresses import ImageReference
from slm_operator.api.base import ObjectName, Part
from slm_operator.api.kubernetes import Toleration, lets_nodes_change
from slm_operator.api.names import NVIDIA_GPU
from slm_operator.digest import digest

if TYPE_CHECKING:
    from slm_operator.api.deployment import SLMDeploymentSpec

_NAME = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$"
_ADDRESS = r"^(https?://[^@\s]+)?$"
"""NB: with no password in it: status and pods show it to many."""
_AMOUNT = r"^([0-9]+(\.[0-9]+)?(m|[kMGT]i?)?)?$"


class TaintTolerated(Toleration, extra="forbid"):
    """A taint that pods with engines put up with, as in a pod."""


class Proxy(Part, extra="forbid"):
    """Proxies through which models are fetched."""

    http: Annotated[str, Field(max_length=1024, pattern=_ADDRESS)] = ""
    """HTTP_PROXY of engines. Empty: not set. No password: whoever may see a pod would see it; one comes from a Secret, in spec.podTemplate."""
    https: Annotated[str, Field(max_length=1024, pattern=_ADDRESS)] = ""
    """HTTPS_PROXY of engines, in the same way."""
    none: Annotated[str, Field(max_length=4096)] = "localhost,127.0.0.1,::1,.svc,.cluster.local"
    """NO_PROXY of engines, where one of the others is set."""


class CaBundle(Part, extra="forbid"):
    """Certificate authorities that engines trust: of a proxy, a mirror, a store of models."""

    config_map: Annotated[str, Field(max_length=253, pattern=_NAME)] = ""
    """ConfigMap with them in PEM, which must be in each namespace that serves (trust-manager puts it there). The image's own are not trusted then: it needs those too. Empty: the image's own."""
    key: Annotated[str, Field(max_length=253, pattern=r"^[-._A-Za-z0-9]+$")] = "ca.crt"
    """The key in it."""


class EngineResources(Part, extra="forbid"):
    """Requests and limits of one engine."""

    cpu: Annotated[str, Field(max_length=64, pattern=_AMOUNT)] = ""
    """CPUs. Empty: 2."""
    memory: Annotated[str, Field(max_length=64, pattern=_AMOUNT)] = ""
    """Host memory. Empty: what its weights need to pass through, 8Gi at least."""


class Defaults(Part, extra="forbid"):
    """What engines have where their spec says nothing. Each deployment keeps what it was made with: a change here restarts nothing, and is taken with the next change of its model, engine, accelerator or podTemplate, or by `kubectl slm upgrade`."""

    # NB: one that comes later must be off by default, for whoever was made before it is read as if it had that.
    engine_image: ImageReference = ENGINES[0].image
    """Image of an engine whose spec.engine.image is not given."""
    image_pull_secrets: Annotated[tuple[ObjectName, ...], Field(max_length=16)] = ()
    """Secrets by which pods with engines pull their images, in each pod's own namespace, beside those of their podTemplate."""
    tolerations: Annotated[
        tuple[Annotated[TaintTolerated, AfterValidator(lets_nodes_change)], ...], Field(max_length=32)
    ] = (TaintTolerated(key=NVIDIA_GPU, operator="Exists", effect="NoSchedule"),)
    """Tolerations of pods with engines, beside those of spec.accelerator: the taint by which most clusters keep other pods off their GPU nodes."""
    runtime_class_name: Annotated[str, Field(max_length=253, pattern=_NAME)] = ""
    """RuntimeClass of pods with engines: nvidia, where that is not the nodes' default. Empty: the nodes' default."""
    read_only_root_filesystem: bool = False
    """Let no container of these pods write into its image: engines have /tmp, where they keep what they compile, and their volumes. Off by default, because no GPU has run it yet."""
    hub_endpoint: Annotated[str, Field(max_length=1024, pattern=_ADDRESS)] = ""
    """Address of a mirror of the Hugging Face Hub (HF_ENDPOINT of engines). Empty: the hub itself."""
    proxy: Proxy = Proxy()
    """Proxies through which models are fetched."""
    ca_bundle: CaBundle = CaBundle()
    """Certificate authorities that engines trust."""
    resources: EngineResources = EngineResources()
    """Requests and limits of one engine, alike. They change what is measured, so they are part of a profile's key."""


NOTHING = Defaults(tolerations=())
"""What deployments had before there were defaults: whoever runs so goes on so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The defaults that one deployment was made with."""

    values: Defaults
    made_of: str
    """Digest of what of its spec its pods were made of then."""
    upgrade: str | None = None
    """Value of the annotation that last asked for those of the day."""

    def given(self) -> dict[str, Any]:
        """As `status.defaults` has it, and an annotation of the Deployment."""
        asked = {} if self.upgrade is None else {"upgrade": self.upgrade}
        return {"values": self.values.given(), "madeOf": self.made_of} | asked


def read_kept(raw: object) -> Kept | None:
    """What was written down. None: nothing, or what cannot be read. NB: a newer version may know more defaults."""
    if not isinstance(raw, dict):
        return None
    of, upgrade = raw.get("madeOf"), raw.get("upgrade")
    try:
        values = Defaults.model_validate(raw.get("values"), extra="ignore")
    except ValidationError:
        return None
    return Kept(values=values, made_of=str(of), upgrade=None if upgrade is None else str(upgrade))


def made_of(spec: SLMDeploymentSpec) -> str:
    """Digest of what a deployment's pods are made of. Whoever changes that has them replaced anyway.

    NB: not the number of replicas, nor SLO, load or sharing: to scale, or to ask for less latency, brings no other engine.
    NB: without fields that are as by default: with a new field of a new version it is still the same.
    """
    parts = (spec.model, spec.engine, spec.accelerator)
    return digest([[one.model_dump(mode="json", exclude_defaults=True) for one in parts], spec.pod_template])
