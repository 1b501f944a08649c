"""Upgrade, rollback, uninstall and return of the chart, with a deployment in the cluster that must not notice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chart import life
from tests.chart.helm import CHART

from .light import applied, light, wait_for_reason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.testbed.stage import Stage

pytestmark = [pytest.mark.kind, pytest.mark.timeout(1200)]
NAMESPACE = "chart-life"
SCALED = '{"spec": {"replicas": 1}}'


@pytest.fixture
def waiting(stage: Stage) -> Iterator[str]:
    """A deployment that waits for a profile which nobody makes: it needs no GPU, and its status must stay."""
    stage.cluster.kubectl("create", "namespace", NAMESPACE)
    with applied(stage, NAMESPACE, light("waiting", profiling={"policy": "Never"})) as name:
        wait_for_reason(stage, NAMESPACE, name, "ProfileMissing")
        yield name
    stage.cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def test_upgrade_rollback_uninstall_and_return(stage: Stage, waiting: str, tmp_path: Path) -> None:
    before = stage.get("slmd", waiting, NAMESPACE)
    life.upgrade_and_roll_back(stage.cluster, tmp_path)
    values = life.uninstall(stage.cluster, tmp_path)
    after = stage.get("slmd", waiting, NAMESPACE)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["conditions"] == before["status"]["conditions"]

    life.bring_crds(stage.cluster, CHART)  # other tests know no newer field
    life.install(stage.cluster, values)
    stage.cluster.kubectl("patch", "slmd", waiting, "--namespace", NAMESPACE, "--type=merge", "--patch", SCALED)
    wanted = "--for=jsonpath={.status.observedGeneration}=2"
    stage.cluster.kubectl("wait", f"slmd/{waiting}", "--namespace", NAMESPACE, wanted, "--timeout=240s")
