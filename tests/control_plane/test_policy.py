"""The chart's admission policies on a real API server: the operator works under them, and its stolen token does no more.

The operator runs with its service account's own token, through a change of nodes too, so that whatever a policy would refuse
of its work is refused here.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.chart.helm import of_kind, rendered
from tests.chart.rights import denied, uses
from tests.control_plane.gpu_fleet import add_gpu_nodes, install, is_ready, plugins, slm_deployment, slm_profile
from tests.control_plane.operator_process import operator, wait_until
from tests.testbed.cluster import KubectlError, audit_lines, kubectl
from tests.testbed.control_plane import ControlPlane
from tests.testbed.forbidden import FORBIDDEN, Forbidden, foreign

pytestmark = pytest.mark.control_plane
HOME = "slm-system"
POLICIES = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
RIGHTS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
RETENTION = "config.profiles.retentionDays=30"
"""So that the role may delete profiles, and the policies alone say which."""
SETTINGS = "nodes: {projectionSeconds: 0}\nwatch: {intervalSeconds: 0}\n"


@dataclass(frozen=True)
class Bed:
    plane: ControlPlane
    kubeconfig: Path
    """Of the operator's service account."""
    node: str

    def apply(self, namespace: str, manifest: dict[str, Any]) -> None:
        self.plane.kubectl("apply", "--server-side", "-n", namespace, "-f", "-", stdin=json.dumps(manifest))

    def as_operator(self, *arguments: str, stdin: str | None = None) -> str:
        return kubectl(self.kubeconfig, *arguments, stdin=stdin)


@pytest.fixture
def bed(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Bed]:
    plane = control_plane
    install(plane)
    made = plane.kubectl("create", "namespace", HOME, "--dry-run=client", "--output=yaml")
    plane.kubectl("apply", "--filename", "-", stdin=made)
    chart = rendered(RETENTION)
    for one in (found for kind in (*RIGHTS, *POLICIES) for found in of_kind(chart, kind)):
        where = one["metadata"].get("namespace", HOME)
        plane.kubectl("apply", "--server-side", "--force-conflicts", "-n", where, "-f", "-", stdin=json.dumps(one))
    config = json.loads(plane.kubeconfig.read_text())
    token = plane.kubectl("create", "token", "slm-operator", "--namespace", HOME).strip()
    config["users"][0]["user"] = {"token": token}
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps(config))
    (node,) = add_gpu_nodes(plane, 1, gpus=1, prefix="policy")
    found = Bed(plane, file, node)
    # A policy holds a moment after it was made.
    wait_until(lambda: is_refused(found, "default", FORBIDDEN["a Deployment in kube-system"]))
    with plugins(plane):
        yield found
    for kind in POLICIES:
        for one in of_kind(chart, kind):
            plane.kubectl("delete", kind, one["metadata"]["name"])
    plane.kubectl("delete", "node", node, "--wait=false")


ONE_OF_EACH_POLICY = ("a Deployment of nobody", "a node closed to pods", "another model")


def is_refused(bed: Bed, namespace: str, forbidden: Forbidden, *more: str) -> bool:
    arguments, stdin = forbidden.request(namespace, bed.node)
    try:
        bed.as_operator(*arguments, *more, stdin=stdin)
    except KubectlError as error:
        print(error)  # pytest shows it under a failed test
        return forbidden.words in str(error)
    return False


def test_the_operator_partitions_a_node_serves_and_gives_it_back(bed: Bed, namespace: str, tmp_path: Path) -> None:
    def get(what: str) -> Any:
        return json.loads(bed.plane.kubectl("get", what, "-n", namespace, "-o", "json"))

    def labels() -> dict[str, str]:
        return dict(get(f"node/{bed.node}")["metadata"]["labels"])

    settings = tmp_path / "settings.yaml"
    settings.write_text(SETTINGS)
    bed.apply(namespace, slm_profile("measured"))
    chat = slm_deployment("chat", "measured", slices=2)
    del chat["spec"]["replicas"]  # so that the operator keeps the number there, under the policies
    # NB: nodes of tests before this one may be there still, partitioned in the same way.
    chat["spec"]["accelerator"] = {"nodeSelector": {"kubernetes.io/hostname": bed.node}}
    bed.apply(namespace, chat)
    arguments = (f"--config={settings}", f"--kubeconfig={bed.kubeconfig}", f"--namespace={HOME}")
    with operator(bed.plane, *arguments) as running:
        wait_until(lambda: is_ready(get("slmd/chat")))
        assert labels()["slm-operator.io/slice-class"] == "time-slicing-2"
        assert get("slmd/chat")["spec"]["replicas"] == 2
        bed.plane.kubectl("delete", "slmd/chat", "-n", namespace)
        wait_until(lambda: "slm-operator.io/slice-class" not in labels())
        assert "ValidatingAdmissionPolicy" not in running.log()
    assert denied(uses(audit_lines(bed.plane.audit_log))) == []


def test_request_of_a_stolen_token_is_refused(bed: Bed, namespace: str) -> None:
    foreign(bed.plane, namespace)
    for name in ONE_OF_EACH_POLICY:  # NB: the API server takes up each in its own time
        wait_until(lambda name=name: is_refused(bed, namespace, FORBIDDEN[name], "--dry-run=server"))
    for name, forbidden in FORBIDDEN.items():
        assert is_refused(bed, namespace, forbidden), name
    bed.plane.kubectl("get", "pod/foreign", "-n", namespace)


OURS = {"app.kubernetes.io/managed-by": "slm-operator"}
UNUSED = {"phase": "Complete", "unusedSince": "2026-01-01T00:00:00Z"}
MEASURED = {"model": {"uri": "hf://org/name"}}
PROFILES: dict[str, tuple[dict[str, str], dict[str, Any], dict[str, Any], bool]] = {
    "unused": (OURS, MEASURED, UNUSED, True),
    "used": (OURS, MEASURED, {"phase": "Complete"}, False),
    "new": (OURS, MEASURED, {}, False),
    "of-a-person": ({}, MEASURED, UNUSED, False),
    "of-helm": ({"app.kubernetes.io/managed-by": "Helm"}, MEASURED, UNUSED, False),
    "imported": (OURS, slm_profile("imported")["spec"], UNUSED, False),
}
"""Name to labels, spec and status of an SLMProfile, and whether the operator may delete it."""


def test_only_an_unused_profile_of_its_own_is_deleted(bed: Bed, namespace: str) -> None:
    for name, (labels, spec, status, goes) in PROFILES.items():
        bed.apply(namespace, slm_profile(name) | {"metadata": {"name": name, "labels": labels}, "spec": spec})
        patch = ("--subresource=status", "--type=merge", "--patch", json.dumps({"status": status}))
        bed.plane.kubectl("patch", f"slmp/{name}", "--namespace", namespace, *patch)
        path = f"/apis/slm-operator.io/v1alpha1/namespaces/{namespace}/slmprofiles/{name}"
        deletion = Forbidden(
            "only an SLMProfile that it made", lambda _, __, path=path: (("delete", "--raw", path), None)
        )
        assert is_refused(bed, namespace, deletion) is not goes, name
    left = bed.plane.kubectl("get", "slmp", "--namespace", namespace, "--output=jsonpath={.items[*].metadata.name}")
    assert set(left.split()) == {name for name, (*_, goes) in PROFILES.items() if not goes}


def test_the_policies_have_no_warnings_of_the_type_checker(bed: Bed) -> None:
    def checked() -> list[dict[str, Any]]:
        found = json.loads(bed.plane.kubectl("get", "validatingadmissionpolicies", "-o", "json"))["items"]
        return [one["status"]["typeChecking"] for one in found if "typeChecking" in one.get("status", {})]

    wait_until(lambda: len(checked()) == len(of_kind(rendered(), POLICIES[0])))
    assert not any(one.get("expressionWarnings") for one in checked())


GPU = {"nvidia.com/gpu": "1"}
SLICE = {"nvidia.com/gpu.shared": "1"}
ENGINE = {"image": "registry.example.com/engines/vllm:v0.32.0"}
TENANTS = (
    "policy.engines.images={registry.example.com/engines/,other.example.com/vllm:v1}",
    "policy.slices.enabled=true",
    "policy.slices.namespaces={team-a,team-b}",
)
ENGINES: dict[str, tuple[dict[str, Any], str | None]] = {
    "of the registry": ({}, None),
    "with what may be set": (
        {
            "engine": ENGINE
            | {"args": ["--seed=1", "--kv-cache-dtype", "fp8"], "env": [{"name": "TZ", "value": "UTC"}]},
            "podTemplate": {"spec": {"containers": [{"name": "engine", "resources": {"limits": {"memory": "9Gi"}}}]}},
        },
        None,
    ),
    "of the operator's choice": ({"engine": {}}, None),
    "without a word of it": ({"engine": None}, None),
    "that is named": ({"engine": {"image": "other.example.com/vllm:v1"}}, None),
    "that is the default": ({"engine": {"image": "vllm/vllm-openai:v0.32.0"}}, None),
    "of another registry": ({"engine": {"image": "docker.io/vllm/vllm-openai:v1"}}, "engine.image must be left out"),
    "of one that begins alike": (
        {"engine": {"image": "registry.example.com/engines.evil/vllm"}},
        "engine.image must be left out",
    ),
    "that begins like one": ({"engine": {"image": "other.example.com/vllm:v10"}}, "engine.image must be left out"),
    "with a command": ({"engine": ENGINE | {"command": ["sh", "-c", "true"]}}, "engine.command is not allowed"),
    "with a shortened flag": ({"engine": ENGINE | {"args": ["--middlew=x"]}}, "engine.args may hold only"),
    "with a flag in other letters": ({"engine": ENGINE | {"args": ["--middle_ware=x"]}}, "engine.args may hold only"),
    "with a file of flags": ({"engine": ENGINE | {"args": ["--config=/data/x.yaml"]}}, "args must not hold --config"),
    "with a path for Python": (
        {"engine": ENGINE | {"env": [{"name": "PYTHONPATH", "value": "/x"}]}},
        "engine.env may hold only",
    ),
    "with the model's program": (
        {"model": {"uri": "hf://org/name", "remoteCode": "Trusted"}},
        "model.remoteCode runs a program",
    ),
    "with a volume": (
        {"podTemplate": {"spec": {"volumes": [{"name": "x", "emptyDir": {}}]}}},
        "podTemplate.spec may hold only",
    ),
    "with a sidecar": (
        {"podTemplate": {"spec": {"containers": [{"name": "side", "image": "x"}]}}},
        "podTemplate may set a container's resources",
    ),
}


@pytest.fixture(scope="module")
def tenants(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    """The chart's policies for tenants, in force."""
    install(control_plane)
    chart = rendered("policy.enabled=false", *TENANTS)
    made = [one for kind in POLICIES for one in of_kind(chart, kind)]
    for one in made:
        control_plane.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(one))
    wait_until(lambda: refusal(control_plane, "default", pod(requests=SLICE, limits=SLICE)))
    wait_until(lambda: refusal(control_plane, "default", engine("SLMDeployment", {"engine": {"image": "x"}})))
    yield control_plane
    for one in made:
        control_plane.kubectl("delete", one["kind"], one["metadata"]["name"])


def refusal(plane: ControlPlane, namespace: str, manifest: dict[str, Any]) -> str:
    """What the API server says to an object that is not kept; empty where it is taken."""
    try:
        plane.kubectl("create", "--dry-run=server", "-n", namespace, "-f", "-", stdin=json.dumps(manifest))
    except KubectlError as error:
        return str(error)
    return ""


def pod(part: str = "containers", **resources: dict[str, str]) -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": [{"name": "a", "image": "none"}], "automountServiceAccountToken": False}
    spec[part] = [{"name": "b", "image": "none", "resources": resources}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "asks"}, "spec": spec}


def engine(kind: str, change: dict[str, Any]) -> dict[str, Any]:
    spec = {"model": {"uri": "hf://org/name"}, "engine": ENGINE} | change
    kept = {name: value for name, value in spec.items() if value is not None}
    return {"apiVersion": "slm-operator.io/v1alpha1", "kind": kind, "metadata": {"name": "asks"}, "spec": kept}


def test_under_the_policy_engines_are_of_named_images(tenants: ControlPlane, namespace: str) -> None:
    for name, (change, words) in ENGINES.items():
        said = refusal(tenants, namespace, engine("SLMDeployment", change))
        assert words in said if words is not None else not said, f"{name}: {said}"
    change, words = ENGINES["of another registry"]
    assert str(words) in refusal(tenants, namespace, engine("SLMProfile", change))
    assert not refusal(tenants, namespace, engine("SLMProfile", {}))
    assert not refusal(tenants, namespace, slm_profile("imported"))


def test_under_the_policy_slices_are_for_named_namespaces(tenants: ControlPlane, namespace: str) -> None:
    binding = tenants.kubectl("get", "validatingadmissionpolicybinding/slm-operator-slices", "-o", "json")
    refused = "this namespace may not share GPUs"
    assert refused in refusal(tenants, namespace, pod(requests=SLICE, limits=SLICE))
    assert refused in refusal(tenants, namespace, pod("initContainers", limits=SLICE))
    assert refused in refusal(tenants, namespace, pod(limits={"nvidia.com/mig-1g.5gb.shared": "1"}))
    assert not refusal(tenants, namespace, pod(limits=GPU))
    named = re.sub(r'"team-a"', f'"{namespace}"', binding)
    tenants.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=_bare(named))
    wait_until(lambda: not refusal(tenants, namespace, pod(limits=SLICE)))


def _bare(manifest: str) -> str:
    raw = json.loads(manifest)
    return json.dumps({**raw, "metadata": {"name": raw["metadata"]["name"]}})
