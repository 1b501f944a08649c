"""The chart's mode for namespaces, for real: its Roles, a node that an administrator partitioned, and a model that is served.

The operator runs with the service account's own token and the chart's own settings, so that whatever it would need of nodes,
config maps or other namespaces is denied by the API server.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml

from tests.chart.helm import ROOT, of_kind, rendered
from tests.chart.rights import denied, grants, uses
from tests.control_plane.gpu_fleet import SHARED, is_ready, slm_deployment, slm_profile
from tests.control_plane.operator_process import operator, wait_until
from tests.testbed.cluster import apply_crds, audit_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.testbed.control_plane import ControlPlane

pytestmark = pytest.mark.control_plane
ROLES = ("ServiceAccount", "Role", "RoleBinding")


@pytest.fixture
def plane(control_plane: ControlPlane) -> ControlPlane:
    apply_crds(control_plane, ROOT / "crds")
    return control_plane


class Installed(NamedTuple):
    """The chart's objects, and the arguments of an operator that they are for."""

    chart: list[dict[str, Any]]
    arguments: tuple[str, ...]


def limited(plane: ControlPlane, namespace: str, folder: Path) -> Path:
    """A kubeconfig of the chart's service account."""
    config = json.loads(plane.kubeconfig.read_text())
    token = plane.kubectl("create", "token", "slm-operator", "--namespace", namespace).strip()
    config["users"][0]["user"] = {"token": token}
    file = folder / "kubeconfig"
    file.write_text(json.dumps(config))
    return file


@pytest.fixture
def node(plane: ControlPlane, namespace: str) -> Iterator[str]:
    """A node that somebody partitioned in two for `chat`, and labelled as the operator would."""
    labels = {
        "slm-operator.io/managed": "true",
        "slm-operator.io/slice-class": "time-slicing-2",
        "slm-operator.io/serves": f"{namespace}.chat",
    }
    (name,) = plane.add_kwok_nodes(1, prefix=f"cut-{namespace[-6:]}", labels=labels, resources={SHARED: 2})
    yield name
    plane.kubectl("delete", "node", name)


def installed(plane: ControlPlane, namespace: str, folder: Path, without: tuple[str, str] = ("", "")) -> Installed:
    """The chart in the team's own namespace, the least there is; `without` a verb on a resource, as an older chart has it."""
    values = (f"config.namespaces={{{namespace}}}", "config.watch.intervalSeconds=0")
    chart = rendered(*values, namespace=namespace)
    verb, resource = without
    for rule in (rule for role in of_kind(chart, "Role") for rule in role["rules"]):
        if resource in rule["resources"]:
            rule["verbs"].remove(verb)
    for one in (found for kind in ROLES for found in of_kind(chart, kind)):
        plane.kubectl("apply", "--server-side", "--namespace", namespace, "-f", "-", stdin=json.dumps(one))
    (settings,) = of_kind(chart, "ConfigMap")
    config = folder / "config.yaml"
    config.write_text(settings["data"]["config.yaml"])
    assert yaml.safe_load(config.read_text())["namespaces"] == [namespace]
    kubeconfig = limited(plane, namespace, folder)
    return Installed(chart, (f"--kubeconfig={kubeconfig}", f"--config={config}", f"--namespace={namespace}"))


def test_namespaced_operator_serves_static_slices_undenied(
    plane: ControlPlane, namespace: str, node: str, tmp_path: Path
) -> None:
    chart, arguments = installed(plane, namespace, tmp_path)
    account = f"system:serviceaccount:{namespace}:slm-operator"

    deployment = slm_deployment("chat", "opt", slices=2)
    del deployment["spec"]["replicas"]  # so that the operator keeps the number there, by its Role
    deployment["spec"]["sharing"] |= {"tenancy": "Dedicated", "partitioning": "NodeSlices"}
    for one in (slm_profile("opt"), deployment):
        plane.kubectl("apply", "--server-side", "--namespace", namespace, "-f", "-", stdin=json.dumps(one))

    where = ("--namespace", namespace, "-o", "json")
    with operator(plane, *arguments) as running:
        wait_until(lambda: is_ready(json.loads(plane.kubectl("get", "slmd/chat", *where))))
        pods = json.loads(plane.kubectl("get", "pods", "-l", "slm-operator.io/deployment=chat", *where))["items"]
        assert [pod["spec"]["nodeName"] for pod in pods] == [node, node]
        assert running.terminate() == 0

    used = uses(audit_lines(plane.audit_log), account)
    assert denied(used) == []
    assert {use.namespace for use in used} == {namespace}, "nothing is asked of the cluster as a whole"
    granted = grants(chart, "slm-operator")
    assert [use for use in used if not any(grant.covers(use) for grant in granted)] == []


def test_role_without_scale_is_reported_and_serving_goes_on(
    plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    _, arguments = installed(plane, namespace, tmp_path, without=("patch", "slmdeployments"))
    deployment = slm_deployment("chat", "opt", slices=2)
    del deployment["spec"]["replicas"]
    for one in (slm_profile("opt"), deployment):
        plane.kubectl("apply", "--server-side", "--namespace", namespace, "-f", "-", stdin=json.dumps(one))
    where = ("--namespace", namespace, "-o", "json")
    with operator(plane, *arguments) as running:
        said = "--field-selector=reason=ReplicasNotWritten"
        (event, *_) = wait_until(lambda: json.loads(plane.kubectl("get", "events", said, *where))["items"])
        assert 'cannot patch resource "slmdeployments"' in event["message"]
        served = wait_until(lambda: json.loads(plane.kubectl("get", "deployments", *where))["items"])
        assert served[0]["spec"]["replicas"] == 2
        assert "replicas" not in json.loads(plane.kubectl("get", "slmd/chat", *where))["spec"]
        assert running.terminate() == 0
