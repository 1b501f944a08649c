"""The chart's admission policies on a real API server: the operator works under them, and its stolen token does no more.

The operator runs with its service account's own token, through a change of nodes too, so that whatever a policy would refuse
of its work is refused here.
"""

import json
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
from tests.testbed.forbidden import FORBIDDEN, Forbidden

pytestmark = pytest.mark.control_plane
HOME = "slm-system"
POLICIES = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
RIGHTS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
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
    chart = rendered()
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


def is_refused(bed: Bed, namespace: str, forbidden: Forbidden) -> bool:
    arguments, stdin = forbidden.request(namespace, bed.node)
    try:
        bed.as_operator(*arguments, stdin=stdin)
    except KubectlError as error:
        print(error)  # pytest shows it under a failed test
        return forbidden.words in str(error)
    return False


def test_the_operator_cuts_a_node_serves_and_gives_it_back(bed: Bed, namespace: str, tmp_path: Path) -> None:
    def get(what: str) -> Any:
        return json.loads(bed.plane.kubectl("get", what, "-n", namespace, "-o", "json"))

    def labels() -> dict[str, str]:
        return dict(get(f"node/{bed.node}")["metadata"]["labels"])

    settings = tmp_path / "settings.yaml"
    settings.write_text(SETTINGS)
    bed.apply(namespace, slm_profile("measured"))
    chat = slm_deployment("chat", "measured", slices=2)
    # NB: nodes of tests before this one may be there still, cut in the same way.
    chat["spec"]["accelerator"] = {"nodeSelector": {"kubernetes.io/hostname": bed.node}}
    bed.apply(namespace, chat)
    arguments = (f"--config={settings}", f"--kubeconfig={bed.kubeconfig}", f"--namespace={HOME}")
    with operator(bed.plane, *arguments) as running:
        wait_until(lambda: is_ready(get("slmd/chat")))
        assert labels()["slm-operator.io/slice-class"] == "time-slicing-2"
        bed.plane.kubectl("delete", "slmd/chat", "-n", namespace)
        wait_until(lambda: "slm-operator.io/slice-class" not in labels())
        assert "ValidatingAdmissionPolicy" not in running.log()
    assert denied(uses(audit_lines(bed.plane.audit_log))) == []


def test_what_a_stolen_token_asks_for_is_refused(bed: Bed, namespace: str) -> None:
    bed.plane.kubectl("run", "foreign", "--image=none", "-n", namespace)
    for name, forbidden in FORBIDDEN.items():
        assert is_refused(bed, namespace, forbidden), name
    bed.plane.kubectl("get", "pod/foreign", "-n", namespace)


def test_the_policies_have_no_warnings_of_the_type_checker(bed: Bed) -> None:
    def checked() -> list[dict[str, Any]]:
        found = json.loads(bed.plane.kubectl("get", "validatingadmissionpolicies", "-o", "json"))["items"]
        return [one["status"]["typeChecking"] for one in found if "typeChecking" in one.get("status", {})]

    wait_until(lambda: len(checked()) == len(of_kind(rendered(), POLICIES[0])))
    assert not any(one.get("expressionWarnings") for one in checked())
