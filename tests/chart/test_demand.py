"""Demand is a number of replicas, whatever is advised and however GPUs are divided: the chart's rule at one moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from tests.chart.demand import (
    PARTITIONINGS,
    RULES_FILE,
    Pod,
    Scraped,
    demand,
    of_engines,
    packs,
    scraped,
    wanted,
    whole,
)
from tests.chart.helm import of_kind, rendered

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from slm_operator.manifests.engine import Serving


def once(tmp_path: Path, moment: Scraped) -> dict[str, float]:
    """What is recorded of a moment, by deployment."""
    (answered,) = demand(tmp_path, [moment])
    return answered


def engines(partitioning: Callable[[int], Serving], count: int, requests: int) -> list[Pod]:
    """Pods with so many engines in all, each with so many requests."""
    one = Pod(partitioning(32), requests)
    return [one] * (count // one.engines)


@pytest.mark.parametrize("partitioning", PARTITIONINGS)
def test_demand_is_in_engines_however_gpus_are_divided(tmp_path: Path, partitioning: Callable[[int], Serving]) -> None:
    at_target = once(tmp_path, scraped(engines(partitioning, 4, requests=24)))["chat"]
    assert (at_target, wanted(at_target, 4)) == (3.0, 4)
    beyond = once(tmp_path, scraped(engines(partitioning, 4, requests=36)))["chat"]
    assert (beyond, wanted(beyond, 4)) == (4.5, 6)


def test_load_that_waits_asks_for_more(tmp_path: Path) -> None:
    assert wanted(once(tmp_path, scraped([Pod(whole(32), 64)]))["chat"], 1) == 3


def test_nothing_that_runs_is_a_demand_of_zero(tmp_path: Path) -> None:
    starting = Pod(packs(32), requests=None, ready=False)
    assert once(tmp_path, scraped([])) == {"chat": 0}
    assert once(tmp_path, scraped([starting])) == {"chat": 0}


def test_an_autoscaler_gets_no_answer_where_none_is_known(tmp_path: Path) -> None:
    unscraped, operator_is_away = scraped([Pod(whole(32), requests=None)]), of_engines([Pod(whole(32), 24)])
    for moment in (unscraped, operator_is_away, scraped([], advised=None)):
        assert once(tmp_path, moment) == {}


def test_two_operators_say_what_one_says(tmp_path: Path) -> None:
    assert once(tmp_path, scraped([Pod(whole(32), 24)], operators=2)) == {"chat": 0.75}


def test_names_that_begin_alike_are_kept_apart(tmp_path: Path) -> None:
    pods = [Pod(whole(32), 16), Pod(whole(64), 16, of="chat-2")]
    assert once(tmp_path, scraped(pods)) == {"chat": 0.5, "chat-2": 0.25}


def test_what_a_draining_replica_still_has_counts(tmp_path: Path) -> None:
    going = Pod(whole(32), 8, ready=False, going=True)
    assert once(tmp_path, scraped([Pod(whole(32), 16), going])) == {"chat": 0.75}


def test_chart_brings_the_rule_as_it_was_judged() -> None:
    (rule,) = of_kind(rendered("metrics.demand.enabled=true", "metrics.demand.labels.release=kps"), "PrometheusRule")
    assert rule["spec"] == yaml.safe_load(RULES_FILE.read_text())
    assert rule["metadata"]["labels"]["release"] == "kps"
    assert not of_kind(rendered(), "PrometheusRule")
