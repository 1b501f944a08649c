"""`kubectl slm` on a real API server, with the operator running: a cluster that is ready, one that is not, a user with few
rights, and the way back to a former advice."""

import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from slm_core.codec import to_json

from tests import builders as build
from tests.conftest import own_namespace
from tests.control_plane.commands import findings, slm
from tests.control_plane.operator_process import operator, wait_until
from tests.testbed.cluster import apply_crds
from tests.testbed.control_plane import ControlPlane, control_plane

pytestmark = pytest.mark.control_plane
ROOT = Path(__file__).parents[2]
SYSTEM = "slm-commands-test"
SECRET = "correct-horse-battery-staple"
LABELS = {
    "nvidia.com/gpu.present": "true",
    "slm-operator.io/managed": "true",
    "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
    "nvidia.com/gpu.count": "2",
    "nvidia.com/gpu.memory": "81920",
    "nvidia.com/gpu.replicas": "1",
    "nvidia.com/gpu.sharing-strategy": "none",
}
DOCUMENT = build.imported()
FEW = replace(DOCUMENT, points=tuple(point for point in DOCUMENT.points if point.batch_size <= 96))


def installation() -> list[dict[str, Any]]:
    """The operator as the chart has it, as far as `check` looks; the process itself runs beside the cluster."""
    labels = {"app.kubernetes.io/name": "slm-operator"}
    volume = {"name": "config", "configMap": {"name": "slm-operator"}}
    pod = {"containers": [{"name": "operator", "image": "registry/slm-operator:0.1.0"}], "volumes": [volume]}
    head = {"name": "slm-operator", "namespace": SYSTEM, "labels": labels}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": head, "data": {"config.yaml": "nodes: {maxChanging: 1}"}},
        {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": head,
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
        },
    ]  # fmt: skip


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """A control plane of its own, because NVIDIA's objects are the whole cluster's: they, two nodes, an operator that acts."""
    with control_plane() as plane:
        apply_crds(plane, ROOT / "crds")
        manifests = ROOT / "tests/standin/manifests"
        plane.kubectl("apply", "--server-side", "-f", str(manifests / "account.yaml"))
        plane.kubectl("apply", "--server-side", "-f", str(manifests))
        for one in installation():
            plane.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(one))
        plane.add_kwok_nodes(2, prefix="asked", labels=LABELS, resources={"nvidia.com/gpu": 2})
        with operator(plane, f"--namespace={SYSTEM}") as running:
            running.said("leading")
            yield plane


@pytest.fixture
def namespace(plane: ControlPlane, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own on that control plane."""
    yield from own_namespace(plane, request)


def apply(plane: ControlPlane, namespace: str, kind: str, name: str, spec: dict[str, Any], **meta: Any) -> None:
    body = json.dumps(build.manifest(kind, name, spec, namespace=namespace, **meta))
    plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=body)


def test_check_of_a_cluster_that_is_ready(plane: ControlPlane) -> None:
    def probe() -> bool:
        """Until kwok's pods are ready. It plays kubelets and says that it does."""
        return set(findings(plane.kubeconfig)) <= {"Kubelet"}

    wait_until(probe)


def test_check_finds_what_is_broken(plane: ControlPlane) -> None:
    plane.kubectl("taint", "node", "asked-0", "dedicated=x:NoSchedule")
    plane.kubectl(
        "label", "node", "asked-1", "nvidia.com/mig.config=all-1g.10gb", "nvidia.com/device-plugin.config=gone"
    )
    try:
        reported = findings(plane.kubeconfig)
    finally:
        plane.kubectl("taint", "node", "asked-0", "dedicated-")
        plane.kubectl("label", "node", "asked-1", "nvidia.com/mig.config-", "nvidia.com/device-plugin.config-")
    divided = "is divided by MIG (nvidia.com/mig.config=all-1g.10gb)"
    assert reported["Whole GPUs"] == [f"problem: {divided}: the operator leaves the node alone"]
    assert "names no key of ConfigMap nvidia-device-plugin-configs" in reported["Node's key"][0]
    assert "nvidia-device-plugin (dedicated)" in reported["NVIDIA's taints"][0]


def test_check_compares_the_api_field_by_field(plane: ControlPlane) -> None:
    """The CRDs that are served are those of this version; one without a field is not."""
    path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/search/properties/maxGpuMinutes"
    crd = json.loads(plane.kubectl("get", "crd", "slmprofiles.slm-operator.io", "-o", "json"))
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    budget = spec["properties"]["search"]["properties"]["maxGpuMinutes"]  # NB: no rule of the schema speaks of it

    def patch(change: dict[str, Any]) -> None:
        body = json.dumps([{"path": path} | change])
        plane.kubectl("patch", "crd", "slmprofiles.slm-operator.io", "--type=json", "-p", body)

    patch({"op": "remove"})
    try:
        wait_until(lambda: "SLMProfile.spec.search.maxGpuMinutes" in str(findings(plane.kubeconfig).get("CRDs")))
    finally:
        patch({"op": "add", "value": budget})
    wait_until(lambda: "CRDs" not in findings(plane.kubeconfig))


def test_a_developer_sees_which_rights_are_missing(plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    plane.kubectl("create", "serviceaccount", "developer", "--namespace", namespace)
    plane.kubectl(
        "create",
        "rolebinding",
        "developer",
        "--clusterrole=view",
        f"--serviceaccount={namespace}:developer",
        "--namespace",
        namespace,
    )
    config = json.loads(plane.kubeconfig.read_text())
    config["users"][0]["user"] = {
        "token": plane.kubectl("create", "token", "developer", "--namespace", namespace).strip()
    }
    config["contexts"][0]["context"]["namespace"] = namespace
    limited = tmp_path / "kubeconfig"
    limited.write_text(json.dumps(config))
    reported = findings(limited)
    assert reported["Right to deploy"] == [f"problem: you may not create an SLMDeployment in namespace {namespace}"]
    assert "list nodes (for check, support)" in reported["Other rights"][0]
    assert reported["Operator"] == ["warning: not seen: no right to list deployments"]
    assert reported["Opt-in"] == ["warning: nodes are not seen: no right to list nodes"]
    for command in (["top", "--once"], ["watch"], ["explain", "x"], ["history", "x"], ["rollback", "x"]):
        done = slm(limited, *command)
        assert done.returncode == 2, command
        assert done.stderr.startswith(f"kubectl slm {command[0]}: no rights: "), done.stderr
    assert slm(limited, "support", "-o", str(tmp_path / "s.tgz")).returncode == 0


def test_top_without_deployments(plane: ControlPlane, namespace: str) -> None:
    """With them it would ask the pods, which kwok only plays."""
    done = slm(plane.kubeconfig, "top", "--once", "--namespace", namespace)
    assert (done.returncode, done.stdout) == (0, f"no SLMDeployment in namespace {namespace}\n")


def deployed(plane: ControlPlane, namespace: str, profile: str) -> None:
    """A deployment that serves by the advice of this profile."""
    variable = {"name": "HF_TOKEN", "value": SECRET}
    spec = {
        "model": {"uri": "hf://facebook/opt-1.3b"},
        "engine": {"env": [variable]},
        "profiling": {"profileRef": {"name": profile}},
        "sharing": {"mode": "Exclusive"},
        "podTemplate": {"metadata": {"annotations": {"vault.example.com/token": SECRET}}},
    }
    apply(plane, namespace, "SLMDeployment", "chat", spec, annotations={"note": SECRET})


def runs(plane: ControlPlane, namespace: str) -> tuple[str, ...]:
    """Arguments of the ready replica, once there is one and no other."""
    pods = json.loads(
        plane.kubectl("get", "pods", "-l", "slm-operator.io/deployment=chat", "-n", namespace, "-o", "json")
    )["items"]
    ready = [
        one
        for one in pods
        if any(c["type"] == "Ready" and c["status"] == "True" for c in one["status"].get("conditions", ()))
    ]
    return tuple(pods[0]["spec"]["containers"][0]["args"]) if len(pods) == len(ready) == 1 else ()


def test_history_and_rollback_bring_the_former_arguments_back(
    plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    model = {"uri": "hf://facebook/opt-1.3b"}
    apply(plane, namespace, "SLMProfile", "few", {"model": model, "measurements": to_json(FEW)})
    apply(plane, namespace, "SLMProfile", "all", {"model": model, "measurements": to_json(DOCUMENT)})
    deployed(plane, namespace, "few")
    first = wait_until(lambda: runs(plane, namespace))
    deployed(plane, namespace, "all")
    second = wait_until(lambda: (now := runs(plane, namespace)) != first and now)

    where = ("--namespace", namespace)
    reported = json.loads(slm(plane.kubeconfig, "history", "chat", "-o", "json", *where).stdout)["revisions"]
    assert [(one["number"], one["profile"], one["canBeHadAgain"]) for one in reported] == [
        (2, "all", False),
        (1, "few", True),
    ]
    assert (tuple(reported[0]["args"]), tuple(reported[1]["args"])) == (second, first)

    done = slm(plane.kubeconfig, "rollback", "chat", *where)
    assert "was set to few: the advice of revision 1" in done.stdout
    wait_until(lambda: runs(plane, namespace) == first)
    reported = json.loads(slm(plane.kubeconfig, "history", "chat", "-o", "json", *where).stdout)["revisions"]
    assert [(one["number"], one["profile"]) for one in reported] == [(3, "few"), (2, "all")]

    archive = tmp_path / "s.tgz"
    assert slm(plane.kubeconfig, "support", "-o", str(archive), *where).returncode == 0
    with tarfile.open(archive) as tar:
        files = {name: file.read().decode() for name in tar.getnames() if (file := tar.extractfile(name)) is not None}
    assert {"slm-support/deployments.json", "slm-support/replica-sets.json", "slm-support/events.json"} <= set(files)
    assert [name for name, text in files.items() if SECRET in text] == []
