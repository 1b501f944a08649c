"""The engine's container: the same for measuring and for serving, so that what was measured is what is served.

Facts of vLLM that shape it are named where they matter; their source is docs/concepts.md, "What the engine does".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slm_core.units import GIB

from slm_operator.manifests.model import claim_volume, model_source
from slm_operator.partitioning.base import SliceClass

if TYPE_CHECKING:
    from slm_core.measurements import SharingMode

    from slm_operator.api.parts import EngineSpec, ModelSpec, WorkloadSpec

CONTAINER = "engine"
PORT = 8000
ENGINE_UID = 2000
SHUTDOWN_SECONDS = 120
PRE_STOP_SECONDS = 10
SHM_BYTES = GIB
DEFAULT_COMMAND = ("python3", "-m", "vllm.entrypoints.openai.api_server")


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What the advice makes of an engine: the arguments that the operator owns."""

    batch_size: int
    kv_bytes: int | None
    max_num_batched_tokens: int | None
    replicas_per_gpu: int
    sharing_mode: SharingMode
    gpu_memory_utilization: float
    weights_bytes: int | None = None
    """Weights as the profile's ledger has them; None where no ledger is known."""

    @property
    def max_in_flight(self) -> int:
        """Requests that an engine takes before it answers 503: a batch that runs and one that waits behind it.

        NB: vLLM counts running and waiting together, in spite of the flag's name (async_llm.py, check_admission).
        """
        return 2 * self.batch_size

    @property
    def slice_class(self) -> SliceClass:
        """What share of a GPU a replica is given."""
        return SliceClass(mode=self.sharing_mode, replicas_per_gpu=self.replicas_per_gpu)


def command(engine: EngineSpec) -> list[str]:
    """The command that starts the server."""
    return list(engine.command or DEFAULT_COMMAND)


def fixed_args(model: ModelSpec, engine: EngineSpec) -> list[str]:
    """Arguments that do not depend on the advice: the profile passes these too."""
    args = [*model_source(model).args, "--dtype", engine.dtype]
    if engine.max_model_len is not None:
        args += ["--max-model-len", str(engine.max_model_len)]
    if model.trust_remote_code:
        args.append("--trust-remote-code")
    return [*args, *engine.args]


def serving_args(model: ModelSpec, engine: EngineSpec, served_name: str, serving: Serving) -> list[str]:
    """All arguments of a replica."""
    args = ["--model", model_source(model).path, "--served-model-name", served_name, "--port", str(PORT)]
    args += ["--max-num-seqs", str(serving.batch_size)]
    if serving.max_num_batched_tokens is not None:
        args += ["--max-num-batched-tokens", str(serving.max_num_batched_tokens)]
    if serving.kv_bytes is not None:
        args += ["--kv-cache-memory-bytes", str(serving.kv_bytes)]
    # Without it the queue has no end: every client would wait, and overload would show only as latency.
    args += ["--max-num-queued-reqs", str(serving.max_in_flight)]
    # NB: a CUDA engine refuses to start when less than utilization * total is free, even when its KV bytes are given.
    args += ["--gpu-memory-utilization", f"{serving.gpu_memory_utilization:.2f}"]
    # NB: the default of 0 aborts every request in flight on SIGTERM.
    args += ["--shutdown-timeout", str(SHUTDOWN_SECONDS)]
    return [*args, *fixed_args(model, engine)]


def environment(model: ModelSpec, engine: EngineSpec) -> list[dict[str, Any]]:
    """Variables of the engine. The user's win, because they come last."""
    ours = (
        # NB: the engines' UID has no entry in the image's passwd: torch asks getpass.getuser() and would fail.
        {"name": "USER", "value": "slm"},
        {"name": "HOME", "value": "/tmp"},  # noqa: S108 - an emptyDir of the pod's own
        {"name": "VLLM_NO_USAGE_STATS", "value": "1"},
        *model_source(model).env,
    )
    theirs = [variable.model_dump(by_alias=True, exclude_none=True) for variable in engine.env]
    named = {str(variable["name"]): variable for variable in (*ours, *theirs)}
    return list(named.values())


def volumes(
    model: ModelSpec, workload: WorkloadSpec | None = None, *, shared_memory: bool = True
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
