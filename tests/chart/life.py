"""The life of a release: upgrade, rollback, uninstall, return. For any cluster that has one."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import yaml

from tests.chart.helm import CHART
from tests.testbed.gotools import binary

if TYPE_CHECKING:
    from pathlib import Path

    from tests.testbed.cluster import Cluster

NAME, NAMESPACE = "slm-operator", "slm-system"
IN = ("--namespace", NAMESPACE)
WAIT = ("--wait", "--timeout=280s")
KINDS = "deployments,replicasets,pods,services,configmaps,poddisruptionbudgets,serviceaccounts,roles,rolebindings"
OURS = "--selector=app.kubernetes.io/instance=slm-operator,app.kubernetes.io/name=slm-operator"


def helm(cluster: Cluster, *arguments: str) -> str:
    command = [str(binary("helm")), f"--kubeconfig={cluster.kubeconfig}", *arguments, *IN]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise RuntimeError(f"helm {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout


def install(cluster: Cluster, values: Path) -> None:
    """A new release. It takes over CRDs that a former one left."""
    helm(cluster, "install", NAME, str(CHART), "--create-namespace", "--values", str(values), *WAIT)


def upgrade_and_roll_back(cluster: Cluster, folder: Path) -> None:
    """To the next version, and back to where it was."""
    (*_, now) = json.loads(helm(cluster, "history", NAME, "--output", "json"))
    next_chart = next_version(folder)
    helm(cluster, "upgrade", NAME, str(next_chart), "--reuse-values", *WAIT)
    assert chart_of(cluster) == "slm-operator-0.1.1-next"
    helm(cluster, "rollback", NAME, str(now["revision"]), *WAIT)
    assert chart_of(cluster) == f"slm-operator-{_meta(CHART)['version']}"


def uninstall(cluster: Cluster, folder: Path) -> Path:
    """Remove the release. Gives a file with its values. Raises AssertionError when something of it is left."""
    values = folder / "values.json"
    values.write_text(helm(cluster, "get", "values", NAME, "--output", "json"))
    helm(cluster, "uninstall", NAME, *WAIT)
    cluster.kubectl("wait", "--for=delete", "pods,replicasets", *IN, OURS, "--timeout=240s")
    assert left_behind(cluster) == []
    return values


def next_version(folder: Path) -> Path:
    """The chart as a next version would be, links resolved as `helm package` does."""
    copy = folder / NAME
    shutil.copytree(CHART, copy)
    (copy / "Chart.yaml").write_text(yaml.safe_dump(_meta(CHART) | {"version": "0.1.1-next"}))
    return copy


def chart_of(cluster: Cluster) -> str:
    """The chart version that the running Deployment says it is of."""
    return cluster.kubectl("get", "deployment", NAME, *IN, "-o", r"jsonpath={.metadata.labels.helm\.sh/chart}")


def left_behind(cluster: Cluster) -> list[str]:
    """Everything of the release that is there. The CRDs, which are kept, carry no label of the release."""
    namespaced = cluster.kubectl("get", KINDS, "--all-namespaces", OURS, "--output=name")
    whole = cluster.kubectl("get", "clusterroles,clusterrolebindings", OURS, "--output=name")
    return (namespaced + whole).split()


def _meta(chart: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((chart / "Chart.yaml").read_text())
    return found
