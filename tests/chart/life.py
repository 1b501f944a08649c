"""The life of a release: upgrade, rollback, uninstall, return, and what was no release before. For any cluster that has one."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.chart.helm import CHART, ROOT
from tests.testbed.gotools import binary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.testbed.cluster import Cluster

NAME, NAMESPACE = "slm-operator", "slm-system"
IN = ("--namespace", NAMESPACE)
WAIT = ("--wait", "--timeout=280s")
KINDS = "deployments,replicasets,pods,services,configmaps,poddisruptionbudgets,serviceaccounts,roles,rolebindings"


def helm(cluster: Cluster, *arguments: str) -> str:
    command = [str(binary("helm")), f"--kubeconfig={cluster.kubeconfig}", *arguments, *IN]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise RuntimeError(f"helm {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout


def install(cluster: Cluster, values: Path, *more: str, release: str = NAME) -> None:
    """A new release. CRDs that are there stay as they are."""
    helm(cluster, "install", release, str(CHART), "--create-namespace", "--values", str(values), *more, *WAIT)


def upgrade_and_roll_back(cluster: Cluster, folder: Path, newer: Callable[[], None] = lambda: None) -> None:
    """To the next version, whose CRDs know a field more, and back. `newer` makes use of that field in between."""
    (*_, now) = json.loads(helm(cluster, "history", NAME, "--output", "json"))
    next_chart = next_version(folder)
    upgrade = ("upgrade", NAME, str(next_chart), "--reuse-values", *WAIT)
    with pytest.raises(RuntimeError, match=r"is of release 0\.1\.0, and this chart needs that of 0\.1\.1-next"):
        helm(cluster, *upgrade)
    bring_crds(cluster, next_chart)
    newer()
    helm(cluster, *upgrade)
    assert chart_of(cluster) == "slm-operator-0.1.1-next"
    helm(cluster, "rollback", NAME, str(now["revision"]), *WAIT)
    assert chart_of(cluster) == f"slm-operator-{_meta(CHART)['version']}"
    assert "description of newer" in cluster.kubectl("explain", "slmd.spec.newer"), (
        "older CRDs were put over newer ones"
    )


def bring_crds(cluster: Cluster, chart: Path) -> None:
    """What an upgrade that is refused asks for."""
    shown = subprocess.run([binary("helm"), "show", "crds", chart], capture_output=True, text=True, check=True)
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "--filename", "-", stdin=shown.stdout)


def plain_to_release(cluster: Cluster, values: Path) -> None:
    """What `kubectl apply -k config/default` made becomes a release: Helm takes it over, and changes what it must."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "config/default"))
    with pytest.raises(RuntimeError, match="cannot be imported into the current release"):
        install(cluster, values)
    uid = cluster.kubectl("get", "deployment", NAME, *IN, "-o", "jsonpath={.metadata.uid}")
    install(cluster, values, "--take-ownership")
    assert cluster.kubectl("get", "deployment", NAME, *IN, "-o", "jsonpath={.metadata.uid}") == uid


def uninstall(cluster: Cluster, folder: Path, release: str = NAME) -> Path:
    """Remove the release. Gives a file with its values. Raises AssertionError when something of it is left."""
    values = folder / "values.json"
    values.write_text(helm(cluster, "get", "values", release, "--output", "json"))
    helm(cluster, "uninstall", release, *WAIT)
    cluster.kubectl("wait", "--for=delete", "pods,replicasets", *IN, _of(release), "--timeout=240s")
    assert left_behind(cluster, release) == []
    return values


def next_version(folder: Path) -> Path:
    """The chart as a next version would be, links resolved as `helm package` does."""
    copy = folder / NAME
    shutil.copytree(CHART, copy)
    (copy / "Chart.yaml").write_text(yaml.safe_dump(_meta(CHART) | {"version": "0.1.1-next"}))
    for path in (copy / "crds").glob("*.yaml"):
        crd = yaml.safe_load(path.read_text())
        crd["metadata"]["annotations"]["slm-operator.io/release"] = "0.1.1-next"
        spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        spec["properties"]["newer"] = {"type": "string", "description": "description of newer"}
        path.write_text(yaml.safe_dump(crd, sort_keys=False, explicit_start=True))
    return copy


def chart_of(cluster: Cluster) -> str:
    """The chart version that the running Deployment says it is of."""
    return cluster.kubectl("get", "deployment", NAME, *IN, "-o", r"jsonpath={.metadata.labels.helm\.sh/chart}")


def left_behind(cluster: Cluster, release: str = NAME) -> list[str]:
    """Everything of the release that is there. The CRDs, which are kept, carry no label of the release."""
    namespaced = cluster.kubectl("get", KINDS, "--all-namespaces", _of(release), "--output=name")
    whole = cluster.kubectl("get", "clusterroles,clusterrolebindings", _of(release), "--output=name")
    return (namespaced + whole).split()


def _of(release: str) -> str:
    return f"--selector=app.kubernetes.io/instance={release},app.kubernetes.io/name=slm-operator"


def _meta(chart: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((chart / "Chart.yaml").read_text())
    return found
