"""The pod that runs a whole pack: a supervisor that starts R engines on one whole GPU, and a router in front of them.

The supervisor runs in the engine's own image, as the profile did, by the same zipapp; the router is a native sidecar, so
that it ends after the engines have drained, and reads its configuration from an annotation of its own pod. What stands here
depends on spec, advice and `PackMeans` alone: neither an upgrade of the operator nor another default restarts a pack.
Must never ask for a right, a node's label, or more than the restricted Pod Security Standard allows.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from slm_core.engines.registry import engine_of
from slm_core.measurements import CPU
from slm_core.pack_pod import (
    AGENT_PORT,
    BATCH_SIZE_FLAG,
    FIRST_ENGINE_PORT,
    HTTP_PORT,
    LIVE_PATH,
    POD_GRACE_SECONDS,
    PRE_STOP_SECONDS,
    READY_PATH,
    ROUTER_COMMAND,
    ROUTER_FILE,
    ROUTER_FOLDER,
    ROUTER_METRICS_PORT,
    STATUS_PORT,
    SUPERVISOR_WORDS,
)
from slm_core.sharing import word_of
from slm_core.units import MIB

from slm_operator.api import names
from slm_operator.manifests import engine as engines
from slm_operator.manifests.model import model_source
from slm_operator.manifests.overlay import ROUTER_CONTAINER
from slm_operator.manifests.resources import engine_resources, pack_resources, requested
from slm_operator.manifests.router import Router, router_config
from slm_operator.manifests.runtime_copy import RUNTIME, RUNTIME_MOUNT, runtime_container, runtime_volume
from slm_operator.partitioning.node_terms import product_terms
from slm_operator.partitioning.pack_pod import PACK_POD
from slm_operator.partitioning.whole_gpus import ONLY_WHOLE
from slm_operator.quantity import amount, cpu_quantity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_operator.api.deployment import SLMDeploymentSpec
    from slm_operator.manifests.engine import Serving
    from slm_operator.manifests.served import PackMeans
    from slm_operator.partitioning.node_terms import Term

ALIVE_SECONDS = 300
"""Until the supervisor answers: its image is there by then, and it looks at device and model first."""
BUFFERS_BYTES = 128 << 10
"""Of a request on its way, in both directions."""
ROUTER_BYTES = 96 * MIB
"""Of the router itself, and of the connections that clients keep."""


def pack_spec(
    spec: SLMDeploymentSpec, serving: Serving, served_name: str, means: PackMeans
) -> tuple[dict[str, str], dict[str, Any]]:
    """Annotations of the pod, and what of its spec is the pack's, before the user's overlay is merged in."""
    health = engine_of(spec.engine.command).paths.health
    volumes, mounts = engines.volumes(spec.model)
    router = router_of(spec, serving)
    annotations = {names.ROUTER_ANNOTATION: router_config(router)}
    return annotations, {
        "terminationGracePeriodSeconds": POD_GRACE_SECONDS,
        "initContainers": [runtime_container(means.supervisor_image), _router(health, means.router_image)],
        "containers": [
            {
                "name": engines.CONTAINER,
                "image": spec.engine.image,
                "command": ["python3", RUNTIME],
                "args": supervisor_args(spec, serving, served_name, means),
                "env": engines.environment(spec.model, spec.engine, spec.engine.api_key_secret_ref),
                # NB: the router listens there; some network policies do not find the named ports of sidecars.
                "ports": [{"name": "http", "containerPort": HTTP_PORT}],
                "volumeMounts": [*mounts, RUNTIME_MOUNT | {"readOnly": True}],
                "securityContext": engines.container_security(),
                # Alive is the supervisor alone: what becomes of an engine is for it to see to.
                "startupProbe": _probe(LIVE_PATH, STATUS_PORT, period=5, failures=ALIVE_SECONDS // 5),
                "readinessProbe": _probe(READY_PATH, STATUS_PORT, period=5, failures=3),
                "livenessProbe": _probe(LIVE_PATH, STATUS_PORT, period=30, failures=10, timeout=20),
                "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
            }
        ],
        "volumes": [*volumes, runtime_volume(), _router_volume()],
    }


def with_pack_resources(template: dict[str, Any], spec: SLMDeploymentSpec, serving: Serving) -> dict[str, Any]:
    """The merged template, its engines' container with the CPU and memory of all of them and one whole GPU, its router with its own.

    NB: a podTemplate's resources are those of one engine, as in its profile.
    """
    one = engine_resources(PACK_POD.resource, spec.pod_template or {}, serving.weights_bytes)
    given = {
        engines.CONTAINER: pack_resources(one, serving.engines_per_gpu),
        ROUTER_CONTAINER: _router_resources(one, serving),
    }
    pod = template["spec"]
    parts = {
        part: [one | {"resources": given[one["name"]]} if one["name"] in given else one for one in pod[part]]
        for part in ("containers", "initContainers")
    }
    return template | {"spec": pod | parts}


def _router_resources(engine: Mapping[str, Any], serving: Serving) -> dict[str, Any]:
    """Whoever requests less than all for an engine wants it to fit where little is free: so must its router."""
    in_flight = serving.engines_per_gpu * serving.max_in_flight
    memory = f"{-(-(ROUTER_BYTES + in_flight * BUFFERS_BYTES) // (64 * MIB)) * 64}Mi"
    one = amount(requested(engine).get("cpu"))
    requests = {"cpu": cpu_quantity(min(Fraction(1), one)) if one else "1", "memory": memory}
    limited = {"cpu": "1"} if amount((engine.get("limits") or {}).get("cpu")) else {}
    return {"requests": requests, "limits": limited | {"memory": memory}}


def router_of(spec: SLMDeploymentSpec, serving: Serving) -> Router:
    """What the pack's router must know."""
    return Router(
        port=HTTP_PORT,
        metrics_port=ROUTER_METRICS_PORT,
        engine_ports=tuple(range(FIRST_ENGINE_PORT, FIRST_ENGINE_PORT + serving.engines_per_gpu)),
        most_in_flight=serving.max_in_flight,
        agent_port=AGENT_PORT,
        status_port=STATUS_PORT,
        paths=engine_of(spec.engine.command).paths,
    )


def supervisor_args(spec: SLMDeploymentSpec, serving: Serving, served_name: str, means: PackMeans) -> list[str]:
    """Arguments of `slm_runtime serve`, the same command that a person runs without Kubernetes."""
    on = serving.pack_on
    compared = means.device != "cpu" and on is not None and on.gpu_product != CPU
    flags: tuple[tuple[str, object | None], ...] = (
        ("--model", model_source(spec.model).path),
        ("--served-model-name", served_name),
        ("--device", means.device),
        ("--gpu-product", on.gpu_product if on is not None and compared else None),
        ("--gpu-memory-bytes", on.gpu_memory_bytes if on is not None and compared else None),
        ("--engines-per-gpu", serving.engines_per_gpu),
        ("--sharing-mode", word_of(serving.sharing_mode)),
        (BATCH_SIZE_FLAG, serving.batch_size),
        ("--kv-cache-bytes", serving.kv_bytes),
        ("--max-num-batched-tokens", serving.max_num_batched_tokens),
        ("--gpu-memory-fraction", f"{serving.gpu_memory_utilization:g}"),
        ("--max-in-flight", serving.max_in_flight),
        ("--startup-timeout-seconds", engines.START_SECONDS),
    )
    said = [text for flag, value in flags if value is not None for text in (flag, str(value))]
    left_out = [f"--leave-out={flag}" for flag in serving.left_out]
    own = [*engines.command(spec.engine), "--", *engines.fixed_args(spec.model, spec.engine)]
    return ["serve", *said, *left_out, *SUPERVISOR_WORDS, "--", *own]


def pack_terms(spec: SLMDeploymentSpec, serving: Serving, means: PackMeans) -> tuple[Term, ...]:
    """Terms of which its node must meet one: of the product that was measured, and with whole GPUs."""
    product = spec.accelerator.product or (serving.pack_on.gpu_product if serving.pack_on is not None else CPU)
    if product == CPU or means.device == "cpu":
        return ONLY_WHOLE
    of_product = product_terms(product, means.product_labels)
    return tuple((*one, *whole) for one in of_product for whole in ONLY_WHOLE)


def _router(health: str, image: str) -> dict[str, Any]:
    """NB: up before any engine is, and the last to end: it answers 503 in between instead of refusing a connection."""
    return {
        "name": ROUTER_CONTAINER,
        "image": image,
        "restartPolicy": "Always",
        "command": list(ROUTER_COMMAND),
        "volumeMounts": [{"name": ROUTER_CONTAINER, "mountPath": ROUTER_FOLDER, "readOnly": True}],
        "securityContext": engines.container_security(),
        # An engine is in, by the router's own checks, which are as patient as a replica's probe.
        "readinessProbe": _probe(health, HTTP_PORT, period=5, failures=1),
    }


def _router_volume() -> dict[str, Any]:
    source = {"fieldRef": {"fieldPath": f"metadata.annotations['{names.ROUTER_ANNOTATION}']"}}
    return {"name": ROUTER_CONTAINER, "downwardAPI": {"items": [{"path": ROUTER_FILE} | source]}}


def _probe(path: str, port: int, *, period: int, failures: int, timeout: int = 5) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }
