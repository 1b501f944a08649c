"""The CRDs on a real API server: what is refused at the door, and what `kubectl explain` says."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.testbed.cluster import KubectlError, apply_crds
from tests.testbed.control_plane import ControlPlane

pytestmark = pytest.mark.control_plane
CRDS = Path(__file__).parents[2] / "crds"
GOOD = {"model": {"uri": "hf://facebook/opt-125m"}}


@pytest.fixture(scope="module")
def plane(control_plane: ControlPlane) -> ControlPlane:
    apply_crds(control_plane, CRDS)
    return control_plane


def manifest(kind: str, spec: dict[str, Any], name: str = "x") -> str:
    return json.dumps(
        {"apiVersion": "slm-operator.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    )


def test_a_spec_with_only_a_model_is_taken_and_gets_its_defaults(plane: ControlPlane) -> None:
    answer = plane.kubectl("apply", "--dry-run=server", "-o", "json", "-f", "-", stdin=manifest("SLMDeployment", GOOD))
    spec = json.loads(answer)["spec"]
    assert spec["workload"] == {"inputTokens": 161, "outputTokens": 338}
    assert spec["sharing"] == {"mode": "Auto", "maxEnginesPerGpu": 4, "tenancy": "Dedicated"}
    assert spec["profiling"]["maxGpuMinutes"] == 15


@pytest.mark.parametrize(
    ("spec", "because"),
    [
        pytest.param({}, "model", id="no model"),
        pytest.param({"model": {"uri": "ftp://x"}}, "a model is hf://org/name, pvc", id="a scheme that is not known"),
        pytest.param(
            {"model": {"uri": "a/b"}}, r"spec.model.uri.*a model is hf://org/name", id="a name without a scheme"
        ),
        pytest.param(
            {"workload": {"dataset": "chats.json"}},
            "spec.workload.dataset.*a dataset is pvc://claim",
            id="a relative path",
        ),
        pytest.param({"slo": {"itl": {"maxMs": 0}}}, "spec.slo.itl.maxMs", id="an SLO of zero"),
        pytest.param({"slo": {"ttftMs": -1}}, "spec.slo.ttft.maxMs", id="a negative SLO"),
        pytest.param(
            {"slo": {"itl": {"maxMs": 5, "maxFactor": 4}}}, "give maxMs or maxFactor, not both", id="two SLOs"
        ),
        pytest.param({"engine": {"args": ["--max-num-seqs=4"]}}, "the operator owns", id="an owned flag"),
        pytest.param(
            {"engine": {"args": ["--max_num_seqs", "4"]}}, "the operator owns", id="an owned flag, underscored"
        ),
        pytest.param(
            {"engine": {"env": [{"name": "A", "value": "b", "valueFrom": {"c": {}}}]}}, "not both", id="env twice"
        ),
        pytest.param({"workload": {"concurrencyPerGpu": 4, "requestsPerSecondPerGpu": 2}}, "not both", id="two loads"),
        pytest.param(
            {"sharing": {"mode": "Exclusive", "enginesPerGpu": 2}}, "one engine a GPU", id="shared and not shared"
        ),
        pytest.param({"sharing": {"enginesPerGpu": 0}}, "spec.sharing.enginesPerGpu", id="no engine a GPU"),
        pytest.param({"sharing": {"mode": "MIG"}}, "spec.sharing.mode", id="a mode that is not known"),
        pytest.param({"replicas": -1}, "spec.replicas", id="negative replicas"),
        pytest.param({"engine": {"image": "a b"}}, "spec.engine.image.*without blanks", id="an image with a blank"),
        pytest.param({"engine": {"image": ""}}, "spec.engine.image.*an image is registry/name", id="no image"),
        pytest.param(
            {"model": {"uri": "hf://a/b", "credentialsSecretRef": {"name": "My Secret"}}},
            "spec.model.credentialsSecretRef.*the name of an object is lower-case",
            id="a Secret that cannot exist",
        ),
        pytest.param(
            {"profiling": {"profileRef": {"name": "My Profile"}}},
            "spec.profiling.profileRef.*the name of an object",
            id="a profile that cannot exist",
        ),
        pytest.param(
            {"routing": {"gatewayRef": {"name": "g", "namespace": "a.b"}, "endpointPickerRef": {"name": "p"}}},
            "spec.routing.gateway_ref.namespace.*the name of a namespace",
            id="a namespace that cannot exist",
        ),
        pytest.param(
            {"routing": {"gatewayRef": {"name": "g"}, "endpointPickerRef": {"name": "p"}, "hostnames": ["*"]}},
            r"spec.routing.hostnames\[0\].*leave hostnames out for every host",
            id="every host",
        ),
        pytest.param({"advisor": {"minEfficiency": 1}}, "spec.advisor.minEfficiency", id="perfect batching"),
    ],
)
def test_a_bad_spec_is_refused_at_the_door(plane: ControlPlane, spec: dict[str, Any], because: str) -> None:
    body = manifest("SLMDeployment", (GOOD | spec) if spec else {})
    with pytest.raises(KubectlError, match=because):
        plane.kubectl("apply", "--dry-run=server", "-f", "-", stdin=body)


def test_a_misspelt_field_is_refused(plane: ControlPlane) -> None:
    with pytest.raises(KubectlError, match=r"unknown field \"spec.enginesPerGpu\""):
        plane.kubectl(
            "apply", "--dry-run=server", "-f", "-", stdin=manifest("SLMDeployment", GOOD | {"enginesPerGpu": 2})
        )


def test_a_profiles_spec_cannot_change(plane: ControlPlane, namespace: str) -> None:
    inside = ("--namespace", namespace)
    plane.kubectl("apply", "-f", "-", *inside, stdin=manifest("SLMProfile", GOOD))
    with pytest.raises(KubectlError, match="make a new profile"):
        plane.kubectl("apply", "-f", "-", *inside, stdin=manifest("SLMProfile", {"model": {"uri": "hf://a/b"}}))
    plane.kubectl("label", "slmp/x", "a=b", *inside)


def test_scale_writes_replicas(plane: ControlPlane, namespace: str) -> None:
    inside = ("--namespace", namespace)
    plane.kubectl("apply", "-f", "-", *inside, stdin=manifest("SLMDeployment", GOOD | {"replicas": 1}))
    plane.kubectl("scale", "slmd/x", "--replicas=3", *inside)
    assert plane.kubectl("get", "slmd/x", "-o", "jsonpath={.spec.replicas}", *inside) == "3"


@pytest.mark.parametrize("path", ["slmd", "slmd.spec", "slmd.spec.sharing", "slmd.status.advice", "slmp.spec.search"])
def test_kubectl_explains(plane: ControlPlane, path: str) -> None:
    reported = plane.kubectl("explain", path, "--api-version=slm-operator.io/v1alpha1")
    assert "<no description>" not in reported
    assert "<empty>" not in reported


def fields(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, part in (schema.get("properties") or {}).items():
        yield f"{path}.{name}", part
        yield from fields(part, f"{path}.{name}")
        yield from fields(part.get("items") or {}, f"{path}.{name}[]")


@pytest.mark.parametrize("file", sorted(CRDS.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_field_is_documented(file: Path) -> None:
    (version,) = yaml.safe_load(file.read_text())["spec"]["versions"]
    found = dict(fields(version["schema"]["openAPIV3Schema"], ""))
    assert len(found) > 50
    assert [path for path, part in found.items() if not part.get("description") and path != ".metadata"] == []
