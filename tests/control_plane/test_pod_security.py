"""The pods that the operator makes, at the door of a namespace that enforces the restricted Pod Security Standard."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.testbed.cluster import KubectlError, enforce_restricted
from tests.testbed.control_plane import ControlPlane
from tests.unit.manifests import cases

pytestmark = pytest.mark.control_plane

# The device plugin mounts MPS's pipes and /dev/shm when the kubelet allocates a slice: no pod of ours names a hostPath,
# and so MPS needs no exception here.
OWN = (
    "vllm-whole-gpu",
    "vllm-mps",
    "vllm-time-slicing-shared",
    "vllm-from-bucket",
    "vllm-hub-cache-of-the-node",
)


@pytest.fixture
def restricted(control_plane: ControlPlane, namespace: str) -> Iterator[str]:
    enforce_restricted(control_plane, namespace)
    return namespace


def create(control_plane: ControlPlane, namespace: str, template: dict[str, Any]) -> str:
    metadata = {"generateName": "engine-"} | {k: v for k, v in template["metadata"].items() if v}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    return control_plane.kubectl(
        *("create", "--dry-run=server", "--namespace", namespace, "--output", "name", "--filename", "-"),
        stdin=json.dumps(pod),
    )


@pytest.mark.parametrize("case", [*OWN, "profile-job"])
def test_our_pods_are_admitted(control_plane: ControlPlane, restricted: str, case: str) -> None:
    assert create(control_plane, restricted, cases.golden()[case][0]["spec"]["template"]).startswith("pod/engine-")


def test_a_sidecar_without_a_security_context_is_refused_by_name(control_plane: ControlPlane, restricted: str) -> None:
    with pytest.raises(KubectlError, match="sidecar"):
        create(control_plane, restricted, cases.golden()["overlay"][0]["spec"]["template"])
