"""The engine's container: the same for measuring and for serving, so that what was measured is what is served.

Which arguments and variables an engine needs is for `slm_core.engines` to know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slm_core.engines.base import ModelOptions, Options, ServingOptions
from slm_core.engines.registry import default, engine_of
from slm_core.units import GIB

from slm_operator.manifests.model import claim_volume, model_source
from slm_operator.partitioning.base import SliceClass

if TYPE_CHECKING:
    from slm_core.measurements import SharingMode

    from slm_operator.api.parts import EngineSpec, MeasuredModel, SecretKey, WorkloadSpec

CONTAINER = "engine"
PORT = 8000
ENGINE_UID = 2000
SHUTDOWN_SECONDS = 120
START_SECONDS = 1800
"""How long an engine may take to load its model: download, load, capture graphs."""
SHM_BYTES = GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredOn:
    """The GPU that a pack was measured on, which its supervisor compares with the one that it finds."""

    gpu_product: str
    gpu_memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What the advice makes of an engine: the arguments that the operator owns."""

    batch_size: int
    kv_bytes: int | None
    max_num_batched_tokens: int | None
    engines_per_gpu: int
    sharing_mode: SharingMode
    gpu_memory_utilization: float
    weights_bytes: int | None = None
    """Weights as the profile's ledger has them; None where no ledger is known."""
    left_out: tuple[str, ...] = ()
    """Flags that the measured engine does not know, so that replicas would not start with them."""
    pack_on: MeasuredOn | None = None
    """Of a pack that one pod runs; None where each engine has a pod of its own."""

    @property
    def max_in_flight(self) -> int:
        """Requests that an engine takes before it answers 503: a batch that runs and one that waits behind it."""
        return 2 * self.batch_size

    @property
    def slice_class(self) -> SliceClass:
        """What share of a GPU a replica is given."""
        return SliceClass(
            mode=self.sharing_mode, engines_per_gpu=self.engines_per_gpu, in_one_pod=self.pack_on is not None
        )


def command(engine: EngineSpec) -> list[str]:
    """The command that starts the server."""
    return list(engine.command or default().command)


def fixed_args(model: MeasuredModel, engine: EngineSpec) -> list[str]:
    """Arguments that do not depend on the advice, the user's own among them: the profile passes these too."""
    source = model_source(model)
    options = ModelOptions(
        revision=source.revision,
        streamed=source.streamed,
        dtype=engine.dtype,
        max_model_len=engine.max_model_len,
        trust_remote_code=model.remote_code == "Trusted",
    )
    return list(engine_of(engine.command).fixed_arguments(options, engine.args))


def serving_args(model: MeasuredModel, engine: EngineSpec, served_name: str, serving: Serving) -> list[str]:
    """All arguments of a replica."""
    options = Options(
        model=model_source(model).path,
        served_name=served_name,
        batch_size=serving.batch_size,
        max_num_batched_tokens=serving.max_num_batched_tokens,
        kv_bytes=serving.kv_bytes,
        memory_fraction=serving.gpu_memory_utilization,
        fixed=tuple(fixed_args(model, engine)),
        service=ServingOptions(port=PORT, max_in_flight=serving.max_in_flight, drain_seconds=SHUTDOWN_SECONDS),
        left_out=serving.left_out,
    )
    return list(engine_of(engine.command).arguments(command(engine), options))


def environment(model: MeasuredModel, engine: EngineSpec, key: SecretKey | None = None) -> list[dict[str, Any]]:
    """Variables of the engine. The user's win, because they come last. `key`: that clients must send."""
    ours = (
        # NB: the engines' UID has no entry in the image's passwd: torch asks getpass.getuser() and would fail.
        {"name": "USER", "value": "slm"},
        {"name": "HOME", "value": "/tmp"},  # noqa: S108 - an emptyDir of the pod's own
        *({"name": name, "value": value} for name, value in engine_of(engine.command).environment.items()),
        *model_source(model).env,
        *_key(engine, key),
    )
    theirs = [variable.given() for variable in engine.env]
    named = {str(variable["name"]): variable for variable in (*ours, *theirs)}
    return list(named.values())


def _key(engine: EngineSpec, key: SecretKey | None) -> tuple[dict[str, Any], ...]:
    variable = engine_of(engine.command).key_variable
    if key is None or variable is None:
        return ()
    return ({"name": variable, "valueFrom": {"secretKeyRef": {"name": key.name, "key": key.key}}},)


def volumes(
    model: MeasuredModel, workload: WorkloadSpec | None = None, *, shared_memory: bool = True
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Volumes and mounts: scratch, shared memory unless another is mounted there, the model, and a profile's dataset."""
    source = model_source(model)
    pairs = [({"name": "scratch", "emptyDir": {}}, {"name": "scratch", "mountPath": "/tmp"})]  # noqa: S108 - in the pod
    if shared_memory:
        shm = {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": str(SHM_BYTES)}}
        pairs.append((shm, {"name": "shm", "mountPath": "/dev/shm"}))  # noqa: S108 - in the pod
    pairs += list(zip(source.volumes, source.mounts, strict=True))
    if workload is not None and workload.dataset is not None and workload.dataset.startswith("pvc://"):
        claim = workload.dataset.removeprefix("pvc://").partition("/")[0]
        pairs.append(claim_volume("dataset", claim, f"/datasets/{claim}"))
    return [volume for volume, _ in pairs], [mount for _, mount in pairs]


def container_security() -> dict[str, Any]:
    """What the restricted Pod Security Standard asks of a container."""
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def pod_security() -> dict[str, Any]:
    """What the restricted Pod Security Standard asks of a pod. One UID for all engines: MPS serves one user at a time."""
    return {
        "runAsNonRoot": True,
        "runAsUser": ENGINE_UID,
        "runAsGroup": ENGINE_UID,
        "fsGroup": ENGINE_UID,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
