"""A podTemplate on a real API server: what we merge is what it makes of the same overlay as a strategic merge patch.

Where the project keeps one source of a volume and of a variable, the patch says so in Kubernetes' own words, `$retainKeys`.
The order of what is new is ours (after the operator's), so lists that are merged by name are compared by name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from slm_operator.manifests.overlay import merge, refused_fields

from tests.unit.manifests.cases import SPECS, template_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.control_plane import ControlPlane

pytestmark = pytest.mark.control_plane
FIELD = Path(__file__).parents[1] / "data/field/pod-templates"
RETAINED = ("volumes", "env")


def engine(**parts: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "engine", **parts}]}}


def of_field(name: str) -> dict[str, Any]:
    overlay: dict[str, Any] = yaml.safe_load((FIELD / f"{name}.yaml").read_text())
    return overlay


OVERLAYS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "another source of a volume": of_field("other-source-of-a-volume"),
    "valueFrom over value": of_field("value-from-over-value"),
    "a value over valueFrom": engine(env=[{"name": "HF_TOKEN", "value": "x"}]),
    "another valueFrom": engine(env=[{"name": "HF_TOKEN", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
    "more of the same source": {"spec": {"volumes": [{"name": "shm", "emptyDir": {"sizeLimit": "2Gi"}}]}},
    "a new volume and its mount": {
        "spec": {
            "volumes": [{"name": "x", "emptyDir": {}}],
            **engine(volumeMounts=[{"name": "x", "mountPath": "/x"}])["spec"],
        }
    },
    "another volume at a path": engine(volumeMounts=[{"name": "scratch", "mountPath": "/dev/shm"}]),
    "more memory, fewer limits": engine(
        resources={"limits": {"memory": "32Gi"}, "requests": {"memory": "32Gi", "cpu": None}}
    ),
    "a field removed": {"spec": {"enableServiceLinks": None, "securityContext": {"fsGroup": None}}},
    "a sidecar": {
        "spec": {
            "containers": [
                {
                    "name": "side",
                    "image": "busybox",
                    "ports": [{"containerPort": 53, "protocol": "UDP"}],
                    "livenessProbe": {"exec": {"command": ["true"]}},
                }
            ],
            "initContainers": [{"name": "warm", "image": "busybox"}],
        }
    },
    "the spread made a condition": {
        "spec": {
            "topologySpreadConstraints": [
                {"topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}
            ]
        }
    },
    "hosts and secrets": {
        "spec": {"hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a"]}], "imagePullSecrets": [{"name": "s"}]}
    },
    "metadata": {"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}},
    "an affinity": {
        "spec": {
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]
                    }
                }
            },
            "nodeSelector": {"zone": "a"},
        }
    },
}


def base() -> dict[str, Any]:
    """The operator's own template, with a variable from a Secret and a volume of each kind."""
    return template_of(*SPECS["vllm-whole-gpu"])


def as_patch(overlay: Any, field: str = "") -> Any:
    """The overlay with the directives by which Kubernetes' own tools keep one source."""
    if isinstance(overlay, list):
        items = [as_patch(item) for item in overlay]
        return [item | {"$retainKeys": sorted(item)} for item in items] if field in RETAINED else items
    if not isinstance(overlay, dict):
        return overlay
    made = {name: as_patch(value, name) for name, value in overlay.items()}
    return made | {"$retainKeys": sorted(made)} if field == "valueFrom" else made


def by_name(value: Any) -> Any:
    """Lists of named items in the order of their names, empty ones left out."""
    if isinstance(value, dict):
        return {name: made for name, part in value.items() if (made := by_name(part)) not in ([], None)}
    if isinstance(value, list):
        return sorted((by_name(item) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
    return value


@pytest.fixture(scope="module")
def kept(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    control_plane.kubectl("create", "-f", "-", stdin=json.dumps(replica_set(base(), "overlaid")))
    yield control_plane
    control_plane.kubectl("delete", "deployment", "overlaid", "--wait=false")


def replica_set(template: dict[str, Any], name: str) -> dict[str, Any]:
    labels = template["metadata"]["labels"]
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


@pytest.mark.parametrize("case", OVERLAYS)
def test_the_merge_is_kubernetes_own(kept: ControlPlane, case: str) -> None:
    overlay = OVERLAYS[case]
    assert refused_fields(overlay) == ()
    patch = json.dumps({"spec": {"template": as_patch(overlay)}})
    options = ("--dry-run=server", "--output=json")
    patched = kept.kubectl("patch", "deployment", "overlaid", "--type=strategic", f"--patch={patch}", *options)
    manifest = replica_set(merge(base(), overlay), "merged")
    manifest["spec"]["selector"]["matchLabels"] = base()["metadata"]["labels"]
    made = kept.kubectl("create", "-f", "-", *options, stdin=json.dumps(manifest))
    ours, theirs = (by_name(json.loads(answer)["spec"]["template"]) for answer in (made, patched))
    assert ours == theirs
