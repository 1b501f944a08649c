"""Deployments of the light engine, for stories that are about Kubernetes and not about the engine."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from slm_core.codec import to_json

from tests import builders as build
from tests.testbed.stage import LIGHT_IMAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slm_core.measurements import MeasurementDocument

    from tests.testbed.stage import Stage


def light(name: str, **spec: Any) -> dict[str, Any]:
    """An SLMDeployment that is measured in seconds. `spec` is merged over it, one level deep."""
    base: dict[str, Any] = {
        "model": {"uri": "pvc://models/opt-tiny"},
        "engine": {"image": LIGHT_IMAGE, "maxModelLen": 256},
        "workload": {"inputTokens": 32, "outputTokens": 16},
        "profiling": {"maxGpuMinutes": 1},
        "sharing": {"enginesPerGpu": 2, "mode": "TimeSlicing"},
        "podTemplate": {
            "spec": {
                "containers": [
                    {
                        "name": "engine",
                        "resources": {
                            "requests": {"cpu": "50m", "memory": "64Mi"},
                            "limits": {"memory": "4Gi"},
                        },
                    }
                ]
            }
        },
    }
    merged = {
        field: (base.get(field, {}) | value if isinstance(value, dict) else value)
        for field, value in (base | spec).items()
    }
    return build.manifest("SLMDeployment", name, merged)


def import_profile(
    stage: Stage,
    namespace: str,
    name: str = "imported",
    model: str = "pvc://models/opt-tiny",
    document: MeasurementDocument | None = None,
) -> None:
    """An SLMProfile from a published sweep, so that nothing has to be measured."""
    spec = {"model": {"uri": model}, "measurements": to_json(document or build.imported())}
    stage.apply(build.manifest("SLMProfile", name, spec, namespace=namespace))


@contextmanager
def applied(stage: Stage, namespace: str, manifest: dict[str, Any]) -> Iterator[str]:
    """An SLMDeployment in the cluster; afterwards it and all of its pods are gone. Gives its name."""
    name = manifest["metadata"]["name"]
    stage.cluster.kubectl("apply", "--namespace", namespace, "--filename", "-", stdin=json.dumps(manifest))
    try:
        yield name
    finally:
        stage.cluster.kubectl("delete", "slmd", name, "--namespace", namespace, "--ignore-not-found")
        stage.cluster.kubectl("wait", "--for=delete", "pods", "--all", "--namespace", namespace, "--timeout=280s")


def wait_for_reason(stage: Stage, namespace: str, name: str, reason: str, timeout_s: int = 300) -> str:
    """Wait until Ready has this reason; its message with it: a moment later it may have another."""
    path = "{.status.conditions[?(@.type=='Ready')]"
    wanted, reported = f"--for=jsonpath={path}.reason}}={reason}", f"--output=jsonpath={path}.message}}"
    return stage.cluster.kubectl(
        *("wait", f"slmd/{name}", "--namespace", namespace, wanted, reported, f"--timeout={timeout_s}s"),
        timeout_s=timeout_s + 30,
    )


def wait_until_ready(stage: Stage, namespace: str, name: str, timeout_s: float = 300) -> None:
    """Wait until the deployment is Ready."""
    stage.cluster.kubectl(
        *("wait", f"slmd/{name}", "--namespace", namespace, "--for=condition=Ready", f"--timeout={timeout_s}s"),
        timeout_s=timeout_s + 30,
    )
