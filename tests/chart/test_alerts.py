"""Every alert fires on what the operator's own registry shows, and on nothing else; and its name leads to a remedy.

The series are those of the product's `Metrics`, and promtool judges the rules as a Prometheus would.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from slm_operator.api.names import Condition
from slm_operator.api.reasons import Reason
from slm_operator.metrics import Metrics
from slm_operator.reconcile.indexes import ProfileKeys, caches_for_planning
from slm_operator.reconcile.queue import KeyedQueue

from tests import builders as build
from tests.chart.helm import of_kind, rendered
from tests.testbed.prometheus import program

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).parents[2]
RULES_FILE = ROOT / "charts/slm-operator/alerts/slm-operator.yaml"
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(RULES_FILE.read_text())["groups"] for rule in group["rules"]
}
PAGE = (ROOT / "docs/how-to/on-call.md").read_text()
MINUTES = {"m": 1, "h": 60}


@dataclass(frozen=True, slots=True)
class World:
    """What the caches hold and what happened each minute."""

    deployment: tuple[dict[str, str], ...] = ()
    profile: tuple[dict[str, str], ...] = ()
    leading: bool = True
    each_minute: Callable[[Metrics], object] = lambda metrics: metrics.passed("SLMDeployment", "ok", 0.1)


def condition(kind: Condition, status: str, reason: str) -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "lastTransitionTime": "2026-01-01T00:00:00Z"}


HEALTHY = World(
    deployment=(
        condition(Condition.READY, "True", Reason.READY),
        condition(Condition.AVAILABLE, "True", Reason.AVAILABLE),
        condition(Condition.SLO_MET, "True", Reason.MET),
    ),
    profile=(condition(Condition.READY, "True", Reason.READY),),
)
FIRES: dict[str, World] = {
    "SLMOperatorAway": replace(HEALTHY, leading=False),
    "SLMOperatorFailing": replace(HEALTHY, each_minute=lambda metrics: metrics.passed("SLMProfile", "error", 0.1)),
    "SLMApiServerRefuses": replace(
        HEALTHY, each_minute=lambda metrics: [metrics.passed("SLMDeployment", "refused", 0.1) for _ in range(10)]
    ),
    "SLMDeploymentUnavailable": World((condition(Condition.AVAILABLE, "False", "CrashLoopBackOff"),)),
    "SLMDeploymentStalled": World((condition(Condition.STALLED, "True", Reason.INVALID_SPEC),)),
    "SLMDeploymentMissesSLO": World((condition(Condition.SLO_MET, "False", Reason.SLO_MISSED),)),
    "SLMDeploymentUnobserved": World((condition(Condition.SLO_MET, "Unknown", Reason.METRICS_UNREADABLE),)),
    "SLMProfileWaits": World(profile=(condition(Condition.READY, "False", Reason.WAITING_FOR_GPU),)),
}


def pages(world: World, minutes: int) -> list[str]:
    """What is scraped, minute by minute."""
    caches = caches_for_planning(ProfileKeys(build.SETTINGS.defaults), build.SETTINGS)
    record = build.deployment(status={"conditions": list(world.deployment)})
    caches.deployments.put(record)
    caches.profiles.put(build.profile(record, status={"conditions": list(world.profile)}))
    metrics = Metrics()
    metrics.expose_gauges(caches, KeyedQueue(lambda: 0.0, lambda: 0.5), {}, lambda: world.leading)
    found = []
    for _ in range(minutes):
        world.each_minute(metrics)
        found.append(generate_latest(metrics.registry).decode())
    return found


def input_series(world: World, minutes: int) -> list[dict[str, str]]:
    values: dict[str, list[str]] = {}
    for minute, page in enumerate(pages(world, minutes)):
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                if sample.name.startswith("slm_operator_"):
                    labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
                    missed = ["_"] * minute
                    values.setdefault(f"{sample.name}{{{labels}}}", missed).append(str(sample.value))
    return [{"series": series, "values": " ".join(seen)} for series, seen in values.items()]


def minutes_of(rule: Mapping[str, Any]) -> int:
    return int(rule["for"][:-1]) * MINUTES[rule["for"][-1]]


def judged(tmp_path: Path, tests: list[dict[str, Any]]) -> None:
    """Whether promtool finds the rules to be as they are expected."""
    (tmp_path / "rules.yaml").write_text(RULES_FILE.read_text())
    asked = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(asked))
    command = [str(program("promtool")), "test", "rules", "test.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def quiet(alert: str, at_minute: int) -> dict[str, Any]:
    return {"eval_time": f"{at_minute}m", "alertname": alert, "exp_alerts": []}


def test_each_rule_has_a_world_in_which_it_fires() -> None:
    assert FIRES.keys() == RULES.keys()


@pytest.mark.parametrize("alert", RULES)
def test_alert_fires_after_its_time_and_not_before(alert: str, tmp_path: Path) -> None:
    lasts = minutes_of(RULES[alert])
    series = input_series(FIRES[alert], lasts + 20)
    early = quiet(alert, lasts - 1)
    judged(tmp_path, [{"interval": "1m", "input_series": series, "alert_rule_test": [early]}])
    never = quiet(alert, lasts + 15)
    with pytest.raises(AssertionError, match=alert):
        judged(tmp_path, [{"interval": "1m", "input_series": series, "alert_rule_test": [never]}])


def test_nothing_fires_where_all_is_well(tmp_path: Path) -> None:
    series = input_series(HEALTHY, 90)
    expected = [quiet(alert, minute) for alert in RULES for minute in (10, 80)]
    judged(tmp_path, [{"interval": "1m", "input_series": series, "alert_rule_test": expected}])


def test_alert_is_over_once_the_condition_holds(tmp_path: Path) -> None:
    alert = "SLMDeploymentUnavailable"
    bad = [one["series"] for one in input_series(FIRES[alert], 1) if 'type="Available"' in one["series"]]
    series = [{"series": one, "values": "1x40 stale"} for one in bad]
    judged(tmp_path, [{"interval": "1m", "input_series": series, "alert_rule_test": [quiet(alert, 50)]}])


@pytest.mark.parametrize("alert", RULES)
def test_reasons_of_a_rule_are_reasons_of_the_operator(alert: str) -> None:
    named = re.findall(r'reason=~?"([^"]+)"', RULES[alert]["expr"])
    assert {word for one in named for word in one.split("|")} <= {str(reason) for reason in Reason}


def test_page_explains_the_alerts_that_there_are() -> None:
    assert re.findall(r"^## (\S+)$", PAGE, re.MULTILINE) == list(RULES)


def test_chart_gives_each_alert_its_runbook_and_labels() -> None:
    made = rendered("metrics.alerts.enabled=true", "metrics.alerts.ruleLabels.team=inference")
    (rule,) = of_kind(made, "PrometheusRule")
    found = {one["alert"]: one for group in rule["spec"]["groups"] for one in group["rules"]}
    assert found.keys() == RULES.keys()
    for alert, one in found.items():
        assert one["annotations"]["runbook_url"].endswith(f"on-call.md#{alert.lower()}")
        assert one["labels"] == RULES[alert]["labels"] | {"team": "inference"}
        assert {name: one[name] for name in ("expr", "for")} == {name: RULES[alert][name] for name in ("expr", "for")}
