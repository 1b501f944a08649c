"""The CRDs on a real API server: what is refused at the door, and what `kubectl explain` says."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from slm_operator.manifests.metadata import child_name, dns_label
from slm_operator.planning.actions import WriteStatus
from slm_operator.planning.deployment.plan import plan_deployment
from slm_operator.watch.records import Key

from tests import builders as build
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
    return json.dumps(build.manifest(kind, name, spec))


def test_a_spec_with_only_a_model_is_taken_and_gets_its_defaults(plane: ControlPlane) -> None:
    answer = plane.kubectl("apply", "--dry-run=server", "-o", "json", "-f", "-", stdin=manifest("SLMDeployment", GOOD))
    spec = json.loads(answer)["spec"]
    assert spec["workload"] == {"inputTokens": 161, "outputTokens": 338}
    assert spec["sharing"] == {"mode": "Auto", "maxEnginesPerGpu": 4, "partitioning": "Auto", "tenancy": "Dedicated"}
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
        pytest.param({"slo": {"ttft": {"maxMs": -1}}}, "spec.slo.ttft.maxMs", id="a negative SLO"),
        pytest.param(
            {"slo": {"itl": {"maxMs": 5, "maxFactor": 4}}}, "give maxMs or maxFactor, not both", id="two SLOs"
        ),
        pytest.param({"engine": {"args": ["--max-num-seqs=4"]}}, "args must not hold", id="an owned flag"),
        pytest.param(
            {"engine": {"args": ["--max_num_seqs", "4"]}}, "args must not hold", id="an owned flag, underscored"
        ),
        pytest.param(
            {
                "engine": {
                    "env": [{"name": "A", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
                }
            },
            "not both",
            id="env twice",
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
            "spec.routing.gatewayRef.namespace.*the name of a namespace",
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


def test_the_longest_arguments_there_may_be_are_judged(plane: ControlPlane) -> None:
    """Within what the API server lets the rules of one object cost."""
    longest = [f"--unknown_{index:02}_" + "a" * 1010 for index in range(64)]
    body = manifest("SLMDeployment", GOOD | {"engine": {"args": longest}})
    plane.kubectl("apply", "--dry-run=server", "-f", "-", stdin=body)


@pytest.mark.parametrize("named", [{"name": "4b-chat"}, {"generateName": "4b-"}], ids=str)
def test_a_deployment_whose_service_could_not_be_is_refused(plane: ControlPlane, named: dict[str, str]) -> None:
    body = json.loads(manifest("SLMDeployment", GOOD)) | {"metadata": named}
    with pytest.raises(KubectlError, match="name it model-4b-chat"):
        plane.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(body))


@pytest.mark.parametrize("named", [{"name": "qwen2.5-x"}, {"name": "x" * 253}, {"generateName": "chat-"}], ids=str)
def test_any_other_name_is_taken_and_its_service_too(plane: ControlPlane, named: dict[str, str]) -> None:
    body = json.loads(manifest("SLMDeployment", GOOD)) | {"metadata": named}
    made = plane.kubectl(
        "create", "--dry-run=server", "-f", "-", "-o", "jsonpath={.metadata.name}", stdin=json.dumps(body)
    )
    service = child_name(Key("default", made))
    plane.kubectl("create", "service", "clusterip", service, "--tcp=80", "--dry-run=server")


@pytest.mark.parametrize("name", ["4b-chat", "qwen2.5-x", "x" * 253])
def test_any_name_of_a_profile_is_taken_and_its_job_too(plane: ControlPlane, name: str) -> None:
    plane.kubectl("create", "--dry-run=server", "-f", "-", stdin=manifest("SLMProfile", GOOD, name))
    plane.kubectl("create", "job", dns_label(name), "--image=a", "--dry-run=server")


def test_a_misspelt_field_is_refused(plane: ControlPlane) -> None:
    with pytest.raises(KubectlError, match=r"unknown field \"spec.enginesPerGpu\""):
        plane.kubectl(
            "apply", "--dry-run=server", "-f", "-", stdin=manifest("SLMDeployment", GOOD | {"enginesPerGpu": 2})
        )


FULL = GOOD | {
    "engine": {"image": "vllm/vllm-openai:v0.32.0"},
    "gpu": {"product": "NVIDIA-H100-80GB-HBM3"},
    "search": {"maxGpuMinutes": 15, "enginesPerGpu": 2},
}
DECISIVE: dict[str, tuple[str, Any]] = {
    "model": ("spec.model", {"uri": "hf://a/b"}),
    "engine": ("spec.engine", {"image": "vllm/vllm-openai:v0.33.0"}),
    "product": ("spec.gpu.product", "NVIDIA-L40S"),
    "no product": ("spec.gpu.product", None),
    "workload": ("spec.workload", {"inputTokens": 7}),
    "SLO": ("spec.search.slo", {"itl": {"maxMs": 9}}),
    "no engines": ("spec.search.enginesPerGpu", None),
}
HARMLESS: dict[str, tuple[str, Any]] = {
    "nodes": ("spec.gpu.nodeSelector", {"pool": "b"}),
    "tolerations": ("spec.gpu.tolerations", [{"key": "nvidia.com/gpu", "operator": "Exists"}]),
    "budget": ("spec.search.maxGpuMinutes", 60),
    "template": ("spec.podTemplate", {"spec": {"priorityClassName": "low"}}),
}


def patch(path: str, value: Any) -> str:
    """A merge patch of one field; None removes it."""
    for name in reversed(path.split(".")):
        value = {name: value}
    return json.dumps(value)


def test_spec_that_decides_a_profile_is_immutable(plane: ControlPlane, namespace: str) -> None:
    inside = ("--namespace", namespace)
    plane.kubectl("apply", "-f", "-", *inside, stdin=manifest("SLMProfile", FULL))
    for path, value in DECISIVE.values():
        with pytest.raises(KubectlError, match=f"{path}: .*it decides what is measured .*: make a new profile"):
            plane.kubectl("patch", "slmp/x", "--type=merge", "--patch", patch(path, value), *inside)
    plane.kubectl("label", "slmp/x", "a=b", *inside)


def test_nodes_and_budget_may_change_until_it_is_measured(plane: ControlPlane, namespace: str) -> None:
    inside = ("--namespace", namespace)
    plane.kubectl("apply", "-f", "-", *inside, stdin=manifest("SLMProfile", FULL))
    for phase in ("Pending", "Running", "Failed"):
        plane.kubectl(
            "patch", "slmp/x", "--subresource=status", "--type=merge", "-p", patch("status.phase", phase), *inside
        )
        for path, value in HARMLESS.values():
            plane.kubectl("patch", "slmp/x", "--type=merge", "--patch", patch(path, value), *inside)
            plane.kubectl("patch", "slmp/x", "--type=merge", "--patch", patch(path, None), *inside)
    plane.kubectl(
        "patch", "slmp/x", "--subresource=status", "--type=merge", "-p", patch("status.phase", "Complete"), *inside
    )
    for path, value in HARMLESS.values():
        with pytest.raises(KubectlError, match="the profile has its measurements"):
            plane.kubectl("patch", "slmp/x", "--type=merge", "--patch", patch(path, value), *inside)
    plane.kubectl("label", "slmp/x", "a=b", *inside)


def test_a_phase_is_one_of_those_documented(plane: ControlPlane, namespace: str) -> None:
    inside = ("--namespace", namespace)
    for kind, plural in (("SLMDeployment", "slmd"), ("SLMProfile", "slmp")):
        plane.kubectl("apply", "-f", "-", *inside, stdin=manifest(kind, GOOD))
        with pytest.raises(KubectlError, match=r"status\.phase"):
            plane.kubectl(
                "patch",
                f"{plural}/x",
                "--subresource=status",
                "--type=merge",
                "-p",
                patch("status.phase", "Serving"),
                *inside,
            )


PACKS = 300


def test_a_status_with_more_packs_than_are_listed_is_taken(plane: ControlPlane, namespace: str) -> None:
    """As it is written for 300 replicas on 300 GPUs: nobody's status may be refused for being large."""
    inside = ("--namespace", namespace)
    plane.kubectl("apply", "-f", "-", *inside, stdin=manifest("SLMDeployment", GOOD, "chat"))
    (write,) = (
        one
        for one in plan_deployment(build.many_packs(PACKS), build.SETTINGS, build.NOW).actions
        if isinstance(one, WriteStatus)
    )
    body = json.dumps({"status": write.status})
    plane.kubectl("patch", "slmd/chat", "--subresource=status", "--type=merge", "--patch", body, *inside)
    stored = json.loads(plane.kubectl("get", "slmd/chat", "-o", "json", *inside))["status"]
    assert (len(stored["packs"]), stored["packCount"]) == (256, PACKS)


FRACTIONS = FULL | {
    "slo": {"itl": {"maxMs": 0.1}, "ttft": {"maxMs": 123.456789012345}},
    "advisor": {"minEfficiency": 0.30000000000000004, "minGain": 1 / 3},
    "workload": {"requestsPerSecondPerGpu": 2.675},
    "profiling": {"maxGpuMinutes": 15.0},
}


def test_numbers_with_fractions_come_back_as_they_went_in(plane: ControlPlane, namespace: str) -> None:
    """What the convention against them guards against (ADR 14): a value that changes on its way, or a diff for ever."""
    inside = ("--namespace", namespace)
    spec = {name: part for name, part in FRACTIONS.items() if name not in {"gpu", "search"}}
    body = manifest("SLMDeployment", spec)
    apply = ("apply", "--server-side", "--field-manager=gitops", "-o", "json", "-f", "-", *inside)
    first = json.loads(plane.kubectl(*apply, stdin=body))
    for name in ("slo", "advisor", "workload", "profiling"):
        for key, value in spec[name].items():
            stored = first["spec"][name][key]
            assert (stored | value if isinstance(value, dict) else value) == stored
    # NB: the first apply after a creation writes the same once more, fractions or none. No later one may.
    again, once_more = (json.loads(plane.kubectl(*apply, stdin=body)) for _ in range(2))
    assert once_more == again
    written_back = manifest("SLMDeployment", again["spec"])
    other = ("apply", "--server-side", "--field-manager=other", "-o", "json", "-f", "-", *inside)
    assert json.loads(plane.kubectl(*other, stdin=written_back))["metadata"]["generation"] == 1, (
        "no conflict, no change"
    )
    plane.kubectl("diff", "--server-side", "--field-manager=gitops", "-f", "-", *inside, stdin=body)


def test_scale_writes_replicas(plane: ControlPlane, namespace: str) -> None:
    inside = ("--namespace", namespace)
    plane.kubectl("apply", "-f", "-", *inside, stdin=manifest("SLMDeployment", GOOD | {"replicas": 1}))
    plane.kubectl("scale", "slmd/x", "--replicas=3", *inside)
    assert plane.kubectl("get", "slmd/x", "-o", "jsonpath={.spec.replicas}", *inside) == "3"


def test_an_update_of_scale_without_replicas_leaves_no_owner(plane: ControlPlane, namespace: str) -> None:
    """Why the operator patches the object itself: by its scale, its own number would look like anybody's (ADR 16)."""
    inside = ("--namespace", namespace)
    plane.kubectl("apply", "-f", "-", *inside, stdin=manifest("SLMDeployment", GOOD))
    scale = f"/apis/slm-operator.io/v1alpha1/namespaces/{namespace}/slmdeployments/x/scale"
    with pytest.raises(KubectlError, match=r"spec.*replicas"):
        plane.kubectl("get", "--raw", scale)
    one = {"spec": {"replicas": 1}}
    with pytest.raises(KubectlError, match=r"spec.*replicas"):
        plane.kubectl("patch", "slmd/x", "--subresource=scale", "--type=merge", "--patch", json.dumps(one), *inside)
    head = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "x", "namespace": namespace}}
    for replicas in (1, 2):
        body = head | {"spec": {"replicas": replicas}}
        plane.kubectl("replace", "--raw", f"{scale}?fieldManager=someone", "-f", "-", stdin=json.dumps(body))
    found = json.loads(plane.kubectl("get", "slmd/x", "-o", "json", "--show-managed-fields", *inside))
    assert found["spec"]["replicas"] == 2
    assert "f:replicas" not in json.dumps(found["metadata"]["managedFields"])


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
