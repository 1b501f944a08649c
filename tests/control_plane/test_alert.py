"""An alert from one end to the other: the operator's process, its metrics, a real Prometheus, the chart's rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests import builders as build
from tests.chart.test_alerts import RULES_FILE
from tests.testbed.cluster import apply_crds
from tests.testbed.component import wait_until
from tests.testbed.ports import free_ports
from tests.testbed.prometheus import prometheus

from .operator_process import operator

if TYPE_CHECKING:
    from tests.testbed.control_plane import ControlPlane

pytestmark = pytest.mark.control_plane
CRDS = Path(__file__).parents[2] / "crds"
ALERT = "SLMDeploymentStalled"


def at_once() -> str:
    """The chart's rules, without the time that each waits."""
    groups = yaml.safe_load(RULES_FILE.read_text())["groups"]
    for group in groups:
        group["rules"] = [{name: value for name, value in rule.items() if name != "for"} for rule in group["rules"]]
    return yaml.safe_dump({"groups": groups})


def scraping(port: int) -> dict[str, str]:
    """Of one operator, each second; a target's labels give way to those of its figures, as in the chart's monitors."""
    job = {"job_name": "operator", "honor_labels": True, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
    every = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    said = {"global": every, "rule_files": ["rules.yml"], "scrape_configs": [job]}
    return {"prometheus.yml": yaml.safe_dump(said), "rules.yml": at_once()}


def test_alert_fires_while_a_deployment_is_stalled_and_ends(control_plane: ControlPlane, namespace: str) -> None:
    apply_crds(control_plane, CRDS)
    (port,) = free_ports(1)
    # Nothing is to be measured, and what was measured is not there: only a person can go on.
    spec = {"model": {"uri": "hf://some/model"}, "profiling": {"policy": "Never"}}
    control_plane.kubectl(
        "apply", "-f", "-", stdin=json.dumps(build.manifest("SLMDeployment", "chat", spec, namespace=namespace))
    )
    with (
        operator(control_plane, f"--metrics-port={port}", "--namespace", namespace),
        prometheus(files=scraping(port)) as server,
    ):
        wait_until(lambda: server.alerts().get(ALERT) == "firing", f"{ALERT} to fire", 120)
        assert "SLMOperatorAway" not in server.alerts()
        control_plane.kubectl("delete", "slmd", "chat", "--namespace", namespace)
        wait_until(lambda: ALERT not in server.alerts(), f"{ALERT} to be over", 120)
