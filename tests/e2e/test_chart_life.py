"""Upgrade, rollback, uninstall and return of the chart, with a deployment in the cluster that must not notice."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.chart.helm import CHART
from tests.testbed.stage import OPERATOR_NAMESPACE

from .light import applied, light, wait_for_reason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.testbed.stage import Stage

pytestmark = [pytest.mark.kind, pytest.mark.timeout(300)]
NAMESPACE = "chart-life"
RELEASE = ("slm-operator", "--namespace", OPERATOR_NAMESPACE)
KINDS = "deployments,replicasets,pods,services,configmaps,poddisruptionbudgets,serviceaccounts,roles,rolebindings"


@pytest.fixture
def waiting(stage: Stage) -> Iterator[str]:
    """A deployment that waits for a profile which nobody makes: it needs no GPU, and its status must stay."""
    stage.cluster.kubectl("create", "namespace", NAMESPACE)
    with applied(stage, NAMESPACE, light("waiting", profiling={"policy": "Never"})) as name:
        wait_for_reason(stage, NAMESPACE, name, "ProfileMissing")
        yield name
    stage.cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture
def next_version(tmp_path: Path) -> Path:
    """The chart as a next version would be, links resolved as `helm package` does."""
    copy = tmp_path / "slm-operator"
    shutil.copytree(CHART, copy)
    meta = yaml.safe_load((copy / "Chart.yaml").read_text())
    (copy / "Chart.yaml").write_text(yaml.safe_dump(meta | {"version": "0.1.1-next"}))
    return copy


def test_upgrade_rollback_uninstall_and_return(stage: Stage, waiting: str, next_version: Path) -> None:
    uid, revision = _deployment(stage, waiting)["metadata"]["uid"], _revision(stage)
    stage.helm("upgrade", *RELEASE[:1], str(next_version), *RELEASE[1:], "--reuse-values", "--wait", "--timeout=90s")
    assert _chart_label(stage) == "slm-operator-0.1.1-next"

    stage.helm("rollback", *RELEASE[:1], str(revision), *RELEASE[1:], "--wait", "--timeout=90s")
    assert _chart_label(stage) == "slm-operator-0.1.0"
    values = json.loads(stage.helm("get", "values", *RELEASE, "--output", "json"))

    stage.helm("uninstall", *RELEASE, "--wait", "--timeout=90s")
    assert _left_behind(stage) == []
    assert _deployment(stage, waiting)["metadata"]["uid"] == uid, "crds.keep is on: user objects stay"

    sets = [part for name, value in _flat(values) for part in ("--set", f"{name}={value}")]
    stage.helm("install", *RELEASE[:1], str(CHART), *RELEASE[1:], *sets, "--wait", "--timeout=90s")
    stage.cluster.kubectl("patch", "slmd", waiting, "--namespace", NAMESPACE, "--type=merge", "--patch", SCALED)
    wanted = "--for=jsonpath={.status.observedGeneration}=2"
    stage.cluster.kubectl("wait", f"slmd/{waiting}", "--namespace", NAMESPACE, wanted, "--timeout=60s")


SCALED = '{"spec": {"replicas": 1}}'


def _deployment(stage: Stage, name: str) -> dict[str, Any]:
    return stage.get("slmd", name, NAMESPACE)


def _revision(stage: Stage) -> int:
    (*_, last) = json.loads(stage.helm("history", *RELEASE, "--output", "json"))
    return int(last["revision"])


def _chart_label(stage: Stage) -> str:
    labels: dict[str, str] = stage.get("deployment", "slm-operator", OPERATOR_NAMESPACE)["metadata"]["labels"]
    return labels["helm.sh/chart"]


def _left_behind(stage: Stage) -> list[str]:
    """Everything of the release that is still there. The CRDs, which are kept, carry no label of the release."""
    gone = ("wait", "--for=delete", "pods,replicasets", "--namespace", OPERATOR_NAMESPACE, "--timeout=60s")
    stage.cluster.kubectl(*gone, "--selector=app.kubernetes.io/instance=slm-operator")
    ours = "--selector=app.kubernetes.io/instance=slm-operator,app.kubernetes.io/name=slm-operator"
    namespaced = stage.cluster.kubectl("get", KINDS, "--all-namespaces", ours, "--output=name")
    whole = stage.cluster.kubectl("get", "clusterroles,clusterrolebindings", ours, "--output=name")
    return (namespaced + whole).split()


def _flat(values: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value
